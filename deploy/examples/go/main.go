// Receive events from Gatehouse with Go's net/http: verify, deduplicate, commit, answer.
//
//	WEBHOOK_SECRETS=whsec_... LISTEN=127.0.0.1:8000 go run .
//
// The SQLite driver needs a C compiler.
package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Gatehouse accepts 1 MiB from a provider by default. The event's attributes come on top.
const maxBody = 2 << 20

const schema = `
	CREATE TABLE IF NOT EXISTS received_events (
		webhook_id TEXT PRIMARY KEY, received_at TEXT DEFAULT CURRENT_TIMESTAMP
	);
	CREATE TABLE IF NOT EXISTS sales (sale TEXT NOT NULL, total TEXT NOT NULL);`

type receiver struct {
	webhooks []*standardwebhooks.Webhook
	db       *sql.DB
}

type event struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// ServeHTTP answers 204 after the commit. Gatehouse tries again after a 500.
func (receiver *receiver) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	// The bytes as they were sent: a parsed and rewritten body has another signature.
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		http.Error(response, "too large", http.StatusRequestEntityTooLarge)
		return
	} else if err != nil {
		http.Error(response, "not read", http.StatusBadRequest)
		return
	}
	if !receiver.isSigned(body, request.Header) {
		http.Error(response, "not signed", http.StatusUnauthorized)
		return
	}
	if err := receiver.store(request.Header.Get("webhook-id"), body); err != nil {
		log.Printf("event %s: %v", request.Header.Get("webhook-id"), err)
		http.Error(response, "failed", http.StatusInternalServerError)
		return
	}
	response.WriteHeader(http.StatusNoContent)
}

// isSigned checks the signature (in constant time) and the timestamp (at most 5 minutes old).
func (receiver *receiver) isSigned(body []byte, header http.Header) bool {
	for _, webhook := range receiver.webhooks {
		if webhook.Verify(body, header) == nil {
			return true
		}
	}
	return false
}

// store commits the id and the work in one transaction. A duplicate does nothing.
func (receiver *receiver) store(id string, body []byte) error {
	var received event
	if err := json.Unmarshal(body, &received); err != nil {
		return err
	}
	tx, err := receiver.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after a commit
	result, err := tx.Exec("INSERT INTO received_events (webhook_id) VALUES (?) ON CONFLICT DO NOTHING", id)
	if err != nil {
		return err
	}
	if inserted, err := result.RowsAffected(); err != nil {
		return err
	} else if inserted == 0 {
		return nil // a duplicate, which is done already
	}
	if err := handle(tx, received); err != nil {
		return err
	}
	return tx.Commit()
}

// handle does your work, in the transaction that stores the id.
func handle(tx *sql.Tx, received event) error {
	if received.Type != "sale.created" {
		return nil
	}
	var sale struct {
		ID    string      `json:"id"`
		Total json.Number `json:"total"` // a float64 would lose digits
	}
	if err := json.Unmarshal(received.Data, &sale); err != nil {
		return err
	}
	if sale.ID == "" || sale.Total == "" {
		return errors.New("a sale needs an id and a total")
	}
	_, err := tx.Exec("INSERT INTO sales (sale, total) VALUES (?, ?)", sale.ID, sale.Total.String())
	return err
}

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func main() {
	receiver := new(receiver)
	// During a rotation: the new and the old secret, with a space between them.
	for _, secret := range strings.Fields(os.Getenv("WEBHOOK_SECRETS")) {
		webhook, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			log.Fatal(err)
		}
		receiver.webhooks = append(receiver.webhooks, webhook)
	}
	// immediate takes the write lock first: of two attempts at the same time, the second one waits.
	db, err := sql.Open("sqlite3", "file:"+setting("DATABASE", "app.db")+"?_txlock=immediate&_busy_timeout=5000")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.Exec(schema); err != nil {
		log.Fatal(err)
	}
	receiver.db = db

	mux := http.NewServeMux()
	mux.Handle("POST /events", receiver)
	listener, err := net.Listen("tcp", setting("LISTEN", "127.0.0.1:8000"))
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", listener.Addr())
	server := http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	log.Fatal(server.Serve(listener))
}
