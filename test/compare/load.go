package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// capacity is the seats of every event: more than are ever booked, so that every booking succeeds.
	capacity = 1_000_000_000
	// warmUp is how long the load runs before it is measured.
	warmUp = time.Second
	// requestTimeout is how long one booking may take with its retries.
	requestTimeout = 30 * time.Second
)

// load is one scenario.
type load struct {
	name      string
	events    int
	endpoints []string
	settings  settings
}

// worker is one client: a connection and one booking at a time.
type worker struct {
	load    *load
	number  int
	client  *clientv3.Client
	booked  int             // bookings so far, also those before measuring
	latency []time.Duration // of every measured booking
	retries int             // transactions that had to be tried again, of measured bookings
	failed  error
}

// run makes the events and drives the load.
func (l *load) run(ctx context.Context) (report, error) {
	workers := make([]*worker, l.settings.connections)
	for i := range workers {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{l.endpoints[i%len(l.endpoints)]}, DialTimeout: startTimeout,
		})
		if err != nil {
			return report{}, err
		}
		defer client.Close()
		workers[i] = &worker{load: l, number: i, client: client}
	}
	if err := l.prepare(ctx, workers[0].client); err != nil {
		return report{}, err
	}
	for _, w := range workers { // a linearizable read: from now on each member has the events, for serializable ones too
		if _, err := w.client.Get(ctx, l.eventKey(0)); err != nil {
			return report{}, err
		}
	}
	begin := time.Now().Add(warmUp)
	end := begin.Add(l.settings.duration)
	var running sync.WaitGroup
	for _, w := range workers {
		running.Go(func() { w.failed = w.run(ctx, begin, end) })
	}
	running.Wait()
	return l.collect(ctx, workers)
}

func (l *load) eventKey(number int) string {
	return fmt.Sprintf("%s/events/seminar/TORM%06d", l.name, number)
}

// prepare writes the events.
func (l *load) prepare(ctx context.Context, client *clientv3.Client) error {
	const most = 100 // etcd's limit for a transaction is 128 operations
	for first := 0; first < l.events; first += most {
		var puts []clientv3.Op
		for number := first; number < min(first+most, l.events); number++ {
			puts = append(puts, clientv3.OpPut(l.eventKey(number), eventValue(0)))
		}
		if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
			return fmt.Errorf("write the events: %w", err)
		}
	}
	return nil
}

// collect adds up what the workers measured, and checks the outcome against the events.
func (l *load) collect(ctx context.Context, workers []*worker) (report, error) {
	var latency []time.Duration
	retries, booked := 0, 0
	for _, w := range workers {
		if w.failed != nil {
			return report{}, fmt.Errorf("client %d: %w", w.number, w.failed)
		}
		latency = append(latency, w.latency...)
		retries += w.retries
		booked += w.booked
	}
	taken, err := l.seats(ctx, workers[0].client)
	if err != nil {
		return report{}, err
	}
	if taken != booked {
		return report{}, fmt.Errorf("%d seats taken by %d bookings", taken, booked)
	}
	return newReport(l, latency, retries), nil
}

// seats returns the seats taken of all events.
func (l *load) seats(ctx context.Context, client *clientv3.Client) (taken int, err error) {
	response, err := client.Get(ctx, l.name+"/events/", clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	for _, kv := range response.Kvs {
		seats, err := bookedSeats(string(kv.Value))
		if err != nil {
			return 0, err
		}
		taken += seats
	}
	return taken, nil
}

// run books until the end, and measures what begins after begin.
func (w *worker) run(ctx context.Context, begin, end time.Time) error {
	for ctx.Err() == nil {
		started := time.Now()
		if started.After(end) {
			return nil
		}
		event := (w.number*7919 + w.booked*104729) % w.load.events
		tries, err := w.book(ctx, w.load.eventKey(event), fmt.Sprintf("%s/bookings/c%d-%d", w.load.name, w.number, w.booked))
		if err != nil {
			return err
		}
		w.booked++
		if started.After(begin) {
			w.latency = append(w.latency, time.Since(started))
			w.retries += tries - 1
		}
	}
	return ctx.Err()
}

// errBookedBefore means that the booking exists: an earlier attempt whose answer was lost made it.
var errBookedBefore = errors.New("booked before")

// book takes a seat of an event and writes the booking, in one transaction, and returns how many it took.
func (w *worker) book(ctx context.Context, event, booking string) (tries int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var options []clientv3.OpOption
	if w.load.settings.read == "serializable" {
		options = append(options, clientv3.WithSerializable())
	}
	response, err := w.client.Get(ctx, event, options...)
	if err != nil {
		return 0, err
	}
	kvs := response.Kvs
	for tries = 1; ; tries++ {
		if len(kvs) != 1 {
			return tries, errors.New("no such event")
		}
		booked, err := bookedSeats(string(kvs[0].Value))
		if err != nil {
			return tries, err
		}
		if booked >= capacity {
			return tries, errors.New("event full")
		}
		reply, err := w.client.Txn(ctx).If(
			clientv3.Compare(clientv3.ModRevision(event), "=", kvs[0].ModRevision),
			clientv3.Compare(clientv3.CreateRevision(booking), "=", 0),
		).Then(
			clientv3.OpPut(event, eventValue(booked+1)), clientv3.OpPut(booking, "1"),
		).Else(
			clientv3.OpGet(event), clientv3.OpGet(booking, clientv3.WithCountOnly()),
		).Commit()
		if err != nil {
			return tries, err
		}
		if reply.Succeeded {
			return tries, nil
		}
		if reply.Responses[1].GetResponseRange().Count > 0 {
			return tries, errBookedBefore
		}
		kvs = reply.Responses[0].GetResponseRange().Kvs
	}
}

// eventValue is an event as it is stored: its capacity and the seats booked.
func eventValue(booked int) string { return fmt.Sprintf("%d %d", capacity, booked) }

func bookedSeats(value string) (int, error) {
	_, booked, ok := strings.Cut(value, " ")
	if !ok {
		return 0, fmt.Errorf("event %q", value)
	}
	return strconv.Atoi(booked)
}
