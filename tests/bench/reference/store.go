package main

import (
	"database/sql"
	"log"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

const (
	// outcomeWait is how long outcomes wait for an event whose commit they can share.
	outcomeWait = 20 * time.Millisecond
	maxWaiting  = 4096

	options = "?_journal_mode=WAL&_synchronous=FULL&_cache_size=-65536&_txlock=immediate"
	tables  = `
		CREATE TABLE IF NOT EXISTS events (
			number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content BLOB NOT NULL);
		CREATE TABLE IF NOT EXISTS deliveries (
			number INTEGER PRIMARY KEY, status TEXT NOT NULL, attempts INTEGER NOT NULL, due_ms INTEGER NOT NULL);`
	addEvent    = "INSERT INTO events (id, content) VALUES (?, ?) ON CONFLICT DO NOTHING"
	addDelivery = "INSERT INTO deliveries VALUES (?, 'pending', 0, 0)"
	setOutcome  = "UPDATE deliveries SET status = ?, attempts = ?, due_ms = ? WHERE number = ?"
	getPending  = `
		SELECT number, id, content, status, attempts, due_ms FROM deliveries JOIN events USING (number)
		WHERE status = 'pending' ORDER BY number`
)

// arrival is an event that waits for its commit.
type arrival struct {
	id      string
	content []byte
	routed  bool
	isNew   bool
	done    chan error
}

// delivery has the status pending, delivered or dead.
type delivery struct {
	number   int64
	id       string
	content  []byte
	status   string
	attempts int
	dueMs    int64
}

// store commits all that waits at the same time in one transaction.
type store struct {
	db                                *sql.DB
	addEvent, addDelivery, setOutcome *sql.Stmt
	arrivals                          chan *arrival
	outcomes                          chan delivery
}

func open(file string) *store {
	db := must(sql.Open("sqlite3", "file:"+file+options))
	db.SetMaxOpenConns(1)
	must(db.Exec(tables))
	return &store{
		db, must(db.Prepare(addEvent)), must(db.Prepare(addDelivery)), must(db.Prepare(setOutcome)),
		make(chan *arrival, maxWaiting), make(chan delivery, maxWaiting),
	}
}

// pending returns the deliveries that were pending when the process ended.
func (store *store) pending() (found []delivery) {
	rows := must(store.db.Query(getPending))
	defer rows.Close()
	for rows.Next() {
		var one delivery
		err := rows.Scan(&one.number, &one.id, &one.content, &one.status, &one.attempts, &one.dueMs)
		found = append(found, must(one, err))
	}
	return must(found, rows.Err())
}

// accept returns after the commit. It tells whether the event is new.
func (store *store) accept(id string, content []byte, routed bool) (bool, error) {
	waiting := &arrival{id: id, content: content, routed: routed, done: make(chan error, 1)}
	store.arrivals <- waiting
	err := <-waiting.done
	return waiting.isNew, err
}

// record returns before the commit. If the process ends in between, the event is delivered again.
func (store *store) record(outcome delivery) {
	store.outcomes <- outcome
}

// write commits for as long as the process runs, and starts new deliveries after their commit.
func (store *store) write(deliver func(delivery)) {
	for {
		var arrivals []*arrival
		select {
		case first := <-store.arrivals:
			arrivals = append([]*arrival{first}, waiting(store.arrivals)...)
		case <-time.After(outcomeWait):
		}
		outcomes := waiting(store.outcomes)
		if len(arrivals)+len(outcomes) == 0 {
			continue
		}
		added, err := store.commit(arrivals, outcomes)
		if err != nil { // what was delivered is pending in the store, and is delivered again after a restart
			log.Printf("not committed: %v", err)
		}
		for _, arrival := range arrivals {
			arrival.done <- err
		}
		for _, delivery := range added {
			go deliver(delivery)
		}
	}
}

// waiting returns what is in a channel that has no other reader.
func waiting[T any](in chan T) (found []T) {
	for range len(in) {
		found = append(found, <-in)
	}
	return found
}

// commit returns the new deliveries, or an error if nothing was committed.
func (store *store) commit(arrivals []*arrival, outcomes []delivery) (added []delivery, err error) {
	transaction, err := store.db.Begin()
	if err != nil {
		return nil, err
	}
	defer transaction.Rollback() // does nothing after the commit
	addEvent, addDelivery := transaction.Stmt(store.addEvent), transaction.Stmt(store.addDelivery)
	for _, each := range arrivals {
		result, err := addEvent.Exec(each.id, each.content)
		if err != nil {
			return nil, err
		}
		rows, _ := result.RowsAffected()
		if each.isNew = rows == 1; !each.isNew || !each.routed {
			continue
		}
		number, _ := result.LastInsertId()
		if _, err := addDelivery.Exec(number); err != nil {
			return nil, err
		}
		added = append(added, delivery{number, each.id, each.content, "pending", 0, 0})
	}
	setOutcome := transaction.Stmt(store.setOutcome)
	for _, each := range outcomes {
		if _, err := setOutcome.Exec(each.status, each.attempts, each.dueMs, each.number); err != nil {
			return nil, err
		}
	}
	if err := transaction.Commit(); err != nil {
		return nil, err
	}
	return added, nil
}
