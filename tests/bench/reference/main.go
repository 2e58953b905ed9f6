// The compiled reference of the benchmark: a gateway in Go that makes nearly the same promise as Gatehouse.
//
//	SECRET=... SIGNING=whsec_... DESTINATION=http://127.0.0.1:8000/events reference
//
// It verifies the HMAC-SHA256 signature of each request, drops duplicates by the event's id, and commits the event
// to SQLite, with an fsync, before it answers. Requests that wait at the same time share a commit. It delivers each
// event as a signed CloudEvent, and retries with exponential backoff. After a restart it delivers what is pending.
//
// It does nothing else that Gatehouse does. It has no config, one source, and one destination. It has no circuit
// breaker, no rate limits, no limits on connections or memory, no dead letters to send again, no log, no diagnosis,
// no operator API, and no metrics except three counts for the benchmark. It keeps events forever and all pending
// deliveries in memory. It stores neither the headers of a request nor a history of attempts.
//
// It prints its port. Its store is reference.db in the working directory.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const maxBody = 1 << 20

type gateway struct {
	secret                         []byte
	store                          *store
	accepted, duplicate, delivered atomic.Int64
}

// sent is an event as the provider sends it.
type sent struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Created string          `json:"created"`
	Data    json.RawMessage `json:"data"`
}

// cloudEvent is an event as the destination gets it.
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Time        string          `json:"time"`
	ContentType string          `json:"datacontenttype"`
	Received    string          `json:"receivedtime"`
	Data        json.RawMessage `json:"data"`
}

// ingest answers after the commit. A duplicate gets 200 too, because the provider must not send it again.
func (gateway *gateway) ingest(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, maxBody))
	if err != nil {
		http.Error(answer, "not read", http.StatusBadRequest)
		return
	}
	if !gateway.isSigned(body, request.Header.Get("X-Mando-Signature")) {
		http.Error(answer, "not signed", http.StatusUnauthorized)
		return
	}
	var event sent
	if err := json.Unmarshal(body, &event); err != nil || event.ID == "" || event.Data == nil {
		http.Error(answer, "not an event", http.StatusBadRequest)
		return
	}
	content, err := json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: event.ID, Source: request.URL.Path, Type: event.Type, Time: event.Created,
		ContentType: "application/json", Received: time.Now().UTC().Format(time.RFC3339Nano), Data: event.Data,
	})
	if err != nil {
		http.Error(answer, "not an event", http.StatusBadRequest)
		return
	}
	isNew, err := gateway.store.accept(event.ID, content, request.URL.Path == "/webhooks/sent")
	switch {
	case err != nil:
		http.Error(answer, "not stored", http.StatusServiceUnavailable)
	case isNew:
		gateway.accepted.Add(1)
		io.WriteString(answer, "accepted")
	default:
		gateway.duplicate.Add(1)
		io.WriteString(answer, "duplicate")
	}
}

func (gateway *gateway) isSigned(body []byte, signature string) bool {
	digest := hmac.New(sha256.New, gateway.secret)
	digest.Write(body)
	return hmac.Equal([]byte(signature), []byte("sha256="+hex.EncodeToString(digest.Sum(nil))))
}

// metrics answers with the counts since the start, as Prometheus text.
func (gateway *gateway) metrics(answer http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(answer, "accepted %d\nduplicate %d\ndelivered %d\n",
		gateway.accepted.Load(), gateway.duplicate.Load(), gateway.delivered.Load())
}

func main() {
	store := open("reference.db")
	gateway := &gateway{secret: []byte(os.Getenv("SECRET")), store: store}
	sender := newSender(os.Getenv("DESTINATION"), os.Getenv("SIGNING"), store, &gateway.delivered)
	for _, delivery := range store.pending() {
		go sender.deliver(delivery)
	}
	go store.write(sender.deliver)

	http.HandleFunc("POST /webhooks/stored", gateway.ingest)
	http.HandleFunc("POST /webhooks/sent", gateway.ingest)
	http.HandleFunc("GET /metrics", gateway.metrics)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{ReadTimeout: 10 * time.Second, IdleTimeout: 15 * time.Second}
	log.Fatal(server.Serve(listener))
}

// must ends the program if it can't start.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
