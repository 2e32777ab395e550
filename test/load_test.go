//go:build linux

package test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dems/internal/conformance"
)

const (
	loadWorkers = 16
	// loadEvents is how many events the load books; each has more seats than there can be bookings.
	loadEvents = 40
	// customersOfWorker is how many customers each worker acts for.
	customersOfWorker = 100
	// attemptDeadline is how long a client waits for one answer: longer than a front end waits for a majority.
	attemptDeadline = 20 * time.Second
)

// request is one operation of the load with its key, and what is known of it.
type request struct {
	as        string
	operation conformance.Operation
	answer    conformance.Answer // where done
	done      bool               // it was acknowledged; else it may or may not have happened
}

// load is clients that book and cancel for customers of their own, each request under a key of its own, and that remember
// what they were told.
type load struct {
	target   conformance.REST
	run      string // makes the keys of one load differ from those of another
	workers  []*worker
	done     atomic.Int64 // acknowledged requests
	slowest  atomic.Int64 // nanoseconds that the slowest acknowledged request took since it was last reset
	failures atomic.Int64 // requests that were not acknowledged at the first attempt
	running  sync.WaitGroup
	stop     context.CancelFunc
}

// worker is one client of the load. It works through all pairs of its customers and the events: books, cancels every third
// booking right away, and now and then reads what it has just done.
type worker struct {
	load     *load
	number   int
	next     int // pair
	requests []*request
	failed   error // why it ended early
}

// loadEvent returns the ID of one of the load's events, in chronological order.
func loadEvent(number int) string {
	return fmt.Sprintf("TOR%c%02d06%02d", "MAE"[number%3], 1+number/3%28, 27+number/84)
}

// newLoad adds the events and returns a load that has not begun.
func newLoad(c *devCluster) *load {
	l := &load{run: rand.Text()}
	l.use(c)
	for i := range loadEvents {
		c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": loadEvent(i), "eventType": "seminar", "capacity": 100_000})
	}
	for i := range loadWorkers {
		l.workers = append(l.workers, &worker{load: l, number: i})
	}
	return l
}

// use points the load at a cluster.
func (l *load) use(c *devCluster) { l.target = c.rest() }

// start begins or goes on with the load. Each worker ends by itself when a request is not acknowledged.
func (l *load) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	for _, w := range l.workers {
		w.failed = nil
		l.running.Go(func() { w.failed = w.run(ctx) })
	}
}

// finish lets every worker finish its request, and returns what ended workers early.
func (l *load) finish() error {
	l.stop()
	l.running.Wait()
	var all []error
	for _, w := range l.workers {
		all = append(all, w.failed)
	}
	return errors.Join(all...)
}

// waitFor waits until that many more requests were acknowledged.
func (l *load) waitFor(t *testing.T, more int64) {
	t.Helper()
	target := l.done.Load() + more
	eventually(t, 60*time.Second, fmt.Sprintf("%d more requests acknowledged", more), func() error {
		if done := l.done.Load(); done < target {
			return fmt.Errorf("%d of %d", done, target)
		}
		return nil
	})
}

// pause returns how long the slowest request since the last call took.
func (l *load) pause() time.Duration { return time.Duration(l.slowest.Swap(0)) }

// run sends requests, one at a time, until the context ends or one is not acknowledged.
func (w *worker) run(ctx context.Context) error {
	for ; w.next < customersOfWorker*loadEvents && ctx.Err() == nil; w.next++ {
		event := loadEvent(w.next % loadEvents)
		customer := fmt.Sprintf("TORC%04d", w.number*customersOfWorker+w.next/loadEvents)
		if err := w.send("bookEvent", customer, event); err != nil {
			return err
		}
		cancelled := w.next%3 == 0
		if cancelled {
			if err := w.send("cancelEvent", customer, event); err != nil {
				return err
			}
		}
		if w.next%5 == 0 {
			if err := w.look(customer, event, !cancelled); err != nil {
				w.load.failures.Add(1)
				return err
			}
		}
	}
	return nil
}

// look reads a schedule, which has to show what was acknowledged a moment ago.
func (w *worker) look(customer, event string, want bool) error {
	begin := time.Now()
	body, err := readBody(context.Background(), w.load.target, customer, scheduleOf(customer))
	if err != nil {
		return err
	}
	booked := slices.ContainsFunc(body["bookings"].([]any), func(booking any) bool {
		return booking.(map[string]any)["eventID"] == event
	})
	if booked != want {
		return fmt.Errorf("schedule of %s: %s is there: %t, want %t", customer, event, booked, want)
	}
	w.load.took(begin)
	return nil
}

func scheduleOf(customer string) conformance.Operation {
	return conformance.Operation{"op": "getBookingSchedule", "customerID": customer}
}

// readBody does a reading operation once.
func readBody(ctx context.Context, target conformance.REST, as string, operation conformance.Operation) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptDeadline)
	defer cancel()
	answer, err := target.Do(ctx, as, operation)
	if err == nil && answer.Status != 200 {
		err = fmt.Errorf("%v: status %d, %v", operation, answer.Status, answer.Body)
	}
	if err != nil {
		return nil, err
	}
	return answer.Body.(map[string]any), nil
}

// took notes how long a request took.
func (l *load) took(begin time.Time) {
	took := int64(time.Since(begin))
	for slowest := l.slowest.Load(); took > slowest && !l.slowest.CompareAndSwap(slowest, took); {
		slowest = l.slowest.Load()
	}
}

// send sends one request once. The stop of the load does not cut it short.
func (w *worker) send(op, customer, event string) error {
	r := &request{as: customer, operation: conformance.Operation{
		"op": op, "customerID": customer, "eventID": event, "eventType": "seminar",
		"key": fmt.Sprintf("%s-%d-%d", w.load.run, w.number, len(w.requests)),
	}}
	w.requests = append(w.requests, r)
	begin := time.Now()
	if err := r.attempt(w.load.target); err != nil {
		w.load.failures.Add(1)
		return fmt.Errorf("%s: %w", begin.Format("15:04:05.000"), err)
	}
	w.load.done.Add(1)
	w.load.took(begin)
	return nil
}

// attempt sends the request and keeps the answer if it is definite. Every request of the load has to succeed, so an
// error is what leaves the outcome open, and also any refusal.
func (r *request) attempt(target conformance.REST) error {
	ctx, cancel := context.WithTimeout(context.Background(), attemptDeadline)
	defer cancel()
	answer, err := target.Do(ctx, r.as, r.operation)
	if err != nil {
		return err
	}
	if answer.Status >= 300 {
		return fmt.Errorf("%v: status %d, %v", r.operation, answer.Status, answer.Body)
	}
	r.answer, r.done = answer, true
	return nil
}

// settle sends every request whose outcome is open again, with the same key, until all are acknowledged, and returns how
// many those were.
func (l *load) settle(t *testing.T) int {
	t.Helper()
	open := 0
	for _, w := range l.workers {
		for _, r := range w.requests {
			if !r.done {
				open++
				eventually(t, 30*time.Second, "an open request", func() error { return r.attempt(l.target) })
			}
		}
		if len(w.requests) > 0 && w.failed != nil { // what was sent last is settled; its pair may still lack the cancelling
			w.resume()
		}
	}
	return open
}

// resume moves a worker that ended early to the pair that comes after its last request.
func (w *worker) resume() {
	w.failed = nil
	w.next++
}

// verify compares what the clients were told with the state: every schedule, every event's bookings.
func (l *load) verify(t *testing.T) {
	t.Helper()
	schedules, booked := map[string]map[string]bool{}, map[string]int{}
	for _, w := range l.workers {
		for _, r := range w.requests {
			event := r.operation.Text("eventID")
			if schedules[r.as] == nil {
				schedules[r.as] = map[string]bool{}
			}
			if r.operation["op"] == "bookEvent" {
				schedules[r.as][event] = true
				booked[event]++
			} else {
				delete(schedules[r.as], event)
				booked[event]--
			}
		}
	}
	for customer, want := range schedules {
		if problem := l.compareSchedule(t, customer, want); problem != "" {
			t.Errorf("schedule of %s: %s", customer, problem)
		}
	}
	l.compareEvents(t, booked)
}

func (l *load) compareSchedule(t *testing.T, customer string, want map[string]bool) string {
	t.Helper()
	body := l.read(t, customer, scheduleOf(customer))
	var wrong []string
	for _, booking := range body["bookings"].([]any) {
		event := booking.(map[string]any)["eventID"].(string)
		if !want[event] {
			wrong = append(wrong, event+" should not be there")
		}
		delete(want, event)
	}
	for event := range want {
		wrong = append(wrong, event+" is missing")
	}
	slices.Sort(wrong)
	return strings.Join(wrong, ", ")
}

func (l *load) compareEvents(t *testing.T, booked map[string]int) {
	t.Helper()
	body := l.read(t, "TORM0001", conformance.Operation{"op": "listEventAvailability", "eventType": "seminar"})
	events := body["events"].([]any)
	if len(events) != loadEvents {
		t.Errorf("%d events, want %d", len(events), loadEvents)
	}
	for _, value := range events {
		event := value.(map[string]any)
		if got, want := fmt.Sprint(event["booked"]), fmt.Sprint(booked[event["eventID"].(string)]); got != want {
			t.Errorf("%v has %s bookings, want %s", event["eventID"], got, want)
		}
	}
}

func (l *load) read(t *testing.T, as string, operation conformance.Operation) map[string]any {
	t.Helper()
	body, err := readBody(t.Context(), l.target, as, operation)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// replay sends acknowledged requests again, each with its key: every answer has to be the first one, marked as such.
func (l *load) replay(t *testing.T) {
	t.Helper()
	for _, w := range l.workers {
		for i := 0; i < len(w.requests); i += 1 + len(w.requests)/20 {
			r := *w.requests[i]
			first := r.answer
			if err := r.attempt(l.target); err != nil {
				t.Errorf("%v again: %v", r.operation, err)
				continue
			}
			if !r.answer.Replayed || r.answer.Status != first.Status || fmt.Sprint(r.answer.Body) != fmt.Sprint(first.Body) {
				t.Errorf("%v again: %+v, first %+v", r.operation, r.answer, first)
			}
		}
	}
}
