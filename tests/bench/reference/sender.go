package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// concurrency is where a destination of Gatehouse starts by default.
	concurrency    = 16
	attemptTimeout = 15 * time.Second
	firstPause     = time.Second
	longestPause   = time.Hour
	maxAttempts    = 80 // in about three days
)

// sender delivers events over a pool of connections that stay open.
type sender struct {
	url       string
	key       []byte
	client    *http.Client
	slots     chan struct{}
	store     *store
	delivered *atomic.Int64
}

func newSender(url, secret string, store *store, delivered *atomic.Int64) *sender {
	key := must(base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_")))
	transport := &http.Transport{MaxIdleConnsPerHost: concurrency, DisableCompression: true}
	client := &http.Client{Transport: transport, Timeout: attemptTimeout}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &sender{url, key, client, make(chan struct{}, concurrency), store, delivered}
}

// deliver makes attempts until one succeeds or too many have failed. It records the outcome of each.
func (sender *sender) deliver(delivery delivery) {
	for delivery.status == "pending" {
		time.Sleep(time.Until(time.UnixMilli(delivery.dueMs)))
		sender.slots <- struct{}{}
		err := sender.post(delivery.id, delivery.content)
		<-sender.slots
		delivery.attempts++
		switch {
		case err == nil:
			delivery.status = "delivered"
			sender.delivered.Add(1)
		case delivery.attempts == maxAttempts:
			delivery.status = "dead"
		default:
			delivery.dueMs = time.Now().Add(pause(delivery.attempts)).UnixMilli()
		}
		sender.store.record(delivery)
	}
}

func (sender *sender) post(id string, content []byte) error {
	request, err := http.NewRequest("POST", sender.url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	request.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	request.Header.Set("Webhook-Id", id)
	request.Header.Set("Webhook-Timestamp", timestamp)
	request.Header.Set("Webhook-Signature", sender.signature(id, timestamp, content))
	reply, err := sender.client.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	// Only a connection whose reply was read can be used again.
	if _, err := io.Copy(io.Discard, io.LimitReader(reply.Body, maxBody)); err != nil {
		return err
	}
	if reply.StatusCode < 200 || reply.StatusCode > 299 {
		return fmt.Errorf("status %d", reply.StatusCode)
	}
	return nil
}

// signature is that of Standard Webhooks.
func (sender *sender) signature(id, timestamp string, content []byte) string {
	digest := hmac.New(sha256.New, sender.key)
	io.WriteString(digest, id+"."+timestamp+".")
	digest.Write(content)
	return "v1," + base64.StdEncoding.EncodeToString(digest.Sum(nil))
}

// pause doubles with each attempt, up to an hour. Half of it is random.
func pause(attempts int) time.Duration {
	longest := min(firstPause<<min(attempts-1, 12), longestPause)
	return longest/2 + rand.N(longest/2)
}
