//go:build linux

package test

import (
	"context"
	"crypto/rand"
	"fmt"
	random "math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dems/internal/conformance"
)

const (
	trafficWriters = 16
	// firstWritersCustomer is the number of the first customer that writers act for. Those before are for other loads.
	firstWritersCustomer = 9000
	// mostRequests bounds traffic that nobody stops.
	mostRequests = 2_000_000
	// patience is how long a writer tries to have one request answered before it gives up.
	patience = 60 * time.Second
	// retryPause is how long a writer waits before it asks again.
	retryPause = 10 * time.Millisecond
	// mostProblems is how many problems of a kind are told in full.
	mostProblems = 5
)

// full tells whether the tests run at the scale at which docs/reliability.md claims things, or at the short one.
var full = os.Getenv("DEMS_RELIABILITY") == "full"

// scale chooses between the two scales.
func scale[T any](short, long T) T {
	if full {
		return long
	}
	return short
}

// traffic is writers that each have events and customers of their own, so that every answer that they get can be compared
// with what a state machine of their own answers. Each has one request at a time on the way.
type traffic struct {
	t       *testing.T
	targets []conformance.REST // front ends; a writer turns to the next when one does not answer
	run     string             // makes the keys of one traffic differ from those of another
	writers []*writer
	every   time.Duration // how often each writer begins a request; 0: as soon as it has its answer
	keeps   bool          // writers remember what they have asked for
	begun   atomic.Int64
	done    atomic.Int64
	wrong   problems // answers that are not the model's
	failed  problems // answers that say that the system did not do its work
	broken  problems // no answer at all
	stop    context.CancelFunc
	running sync.WaitGroup
}

// problems counts what went wrong and keeps the first of it.
type problems struct {
	mu    sync.Mutex
	count int
	first []string
}

func (p *problems) add(format string, arguments ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count++; len(p.first) < mostProblems {
		p.first = append(p.first, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, arguments...))
	}
}

// number returns how many there were.
func (p *problems) number() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

func (p *problems) expectNone(t *testing.T, what string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count > 0 {
		t.Errorf("%d %s, the first are:", p.count, what)
		for _, text := range p.first {
			t.Error(text)
		}
	}
}

// writer is one client of the traffic.
type writer struct {
	traffic   *traffic
	number    int
	target    int // index of the front end in use
	random    *random.Rand
	model     *conformance.Machine
	events    []conformance.Operation // eventID and eventType
	customers []string
	sent      int
	gaveUp    error // the last request has no answer: what follows cannot be checked

	mu      sync.Mutex
	samples []sample
	writes  []written // in order
}

// written is one write that was answered.
type written struct {
	as        string
	operation conformance.Operation
	answer    conformance.Answer
}

// sample is one answered request.
type sample struct {
	begin, end time.Time
	write      bool
}

// newTraffic makes the events of that many writers and returns traffic that has not begun.
func newTraffic(t *testing.T, writers int, targets ...conformance.REST) *traffic {
	t.Helper()
	return newTrafficFrom(t, 0, writers, targets...)
}

// newTrafficFrom numbers the writers from first on. Traffics at the same time need different numbers.
func newTrafficFrom(t *testing.T, first, writers int, targets ...conformance.REST) *traffic {
	t.Helper()
	return (&traffic{t: t, targets: targets, run: rand.Text()}).prepare(first, writers)
}

// prepare makes the writers and their events.
func (tr *traffic) prepare(first, writers int) *traffic {
	t := tr.t
	t.Helper()
	for number := first; number < first+writers; number++ {
		w := &writer{traffic: tr, number: number, random: random.New(random.NewPCG(uint64(number), 1))}
		var err error
		if w.model, err = conformance.NewMachine(); err != nil {
			t.Fatal(err)
		}
		cities := []string{"TOR", "MTL", "OTW"}
		for i := range 9 { // in one month, so that the monthly limit is met
			id := fmt.Sprintf("%s%c%02d%02d%02d", cities[i%3], "MAE"[i/3], 1+number%28, 1+number/28%12, 40+number/336)
			w.events = append(w.events, conformance.Operation{
				"eventID": id, "eventType": []string{"seminar", "conference", "tradeshow"}[(number+i)%3],
			})
		}
		for i := range 6 {
			w.customers = append(w.customers, fmt.Sprintf("%sC%04d", cities[i%3], firstWritersCustomer+2*number+i/3))
		}
		tr.writers = append(tr.writers, w)
	}
	tr.each(func(w *writer) {
		for _, event := range w.events {
			w.ask(w.capacity(event))
		}
	})
	if tr.wrong.number()+tr.failed.number()+tr.broken.number() > 0 {
		tr.expectClean()
		t.FailNow()
	}
	return tr
}

// each does something for every writer at once and waits.
func (tr *traffic) each(do func(*writer)) {
	var group sync.WaitGroup
	for _, w := range tr.writers {
		group.Go(func() { do(w) })
	}
	group.Wait()
}

// start begins or goes on.
func (tr *traffic) start() {
	ctx, cancel := context.WithCancel(tr.t.Context())
	tr.stop = cancel
	tr.t.Cleanup(tr.finish)
	for _, w := range tr.writers {
		tr.running.Go(func() { w.run(ctx) })
	}
}

// finish lets every writer have the answer to its request.
func (tr *traffic) finish() {
	tr.stop()
	tr.running.Wait()
}

// waitFor waits until that many more requests were answered.
func (tr *traffic) waitFor(more int64) {
	tr.t.Helper()
	target := tr.done.Load() + more
	eventually(tr.t, 60*time.Second+time.Duration(more)*5*time.Millisecond, fmt.Sprintf("%d more answers", more), func() error {
		if done := tr.done.Load(); done < target {
			return fmt.Errorf("%d of %d", done, target)
		}
		return nil
	})
}

// expectClean checks that every request was answered at the first attempt, and rightly.
func (tr *traffic) expectClean() {
	tr.t.Helper()
	tr.wrong.expectNone(tr.t, "wrong answers")
	tr.failed.expectNone(tr.t, "failed requests")
	tr.broken.expectNone(tr.t, "requests without an answer")
}

// verify reads everything that the writers own and compares it with their models.
func (tr *traffic) verify() {
	tr.t.Helper()
	tr.each(func(w *writer) {
		for _, customer := range w.customers {
			w.ask(customer, scheduleOf(customer))
		}
		for _, event := range w.events {
			w.ask(w.look(event))
		}
	})
	for _, w := range tr.writers {
		if w.gaveUp != nil {
			tr.t.Errorf("writer %d: %v", w.number, w.gaveUp)
		}
	}
}

// run sends requests until the context ends.
func (w *writer) run(ctx context.Context) {
	var due <-chan time.Time
	if w.traffic.every > 0 {
		ticker := time.NewTicker(w.traffic.every)
		defer ticker.Stop()
		due = ticker.C
	}
	for ctx.Err() == nil && w.gaveUp == nil && w.traffic.begun.Add(1) <= mostRequests {
		w.ask(w.choose())
		if due != nil {
			select {
			case <-due:
			case <-ctx.Done():
			}
		}
	}
}

// choose returns the next operation and who asks for it. Few events with few seats and few customers make all refusals
// happen, too.
func (w *writer) choose() (as string, operation conformance.Operation) {
	event, other := w.events[w.random.IntN(len(w.events))], w.events[w.random.IntN(len(w.events))]
	customer := w.customers[w.random.IntN(len(w.customers))]
	switch number := w.random.IntN(100); {
	case number < 35:
		return customer, with(event, conformance.Operation{"op": "bookEvent", "customerID": customer})
	case number < 60:
		return customer, with(event, conformance.Operation{"op": "cancelEvent", "customerID": customer})
	case number < 70:
		return customer, conformance.Operation{"op": "swapEvent", "customerID": customer, "newEventID": event["eventID"],
			"newEventType": event["eventType"], "oldEventID": other["eventID"], "oldEventType": other["eventType"]}
	case number < 75:
		return w.capacity(event)
	case number < 90:
		return customer, scheduleOf(customer)
	default:
		return w.look(event)
	}
}

// capacity adds an event or changes its capacity.
func (w *writer) capacity(event conformance.Operation) (as string, operation conformance.Operation) {
	return managerOf(event), with(event, conformance.Operation{"op": "addEvent", "capacity": 1 + w.random.IntN(4)})
}

// look reads an event.
func (w *writer) look(event conformance.Operation) (as string, operation conformance.Operation) {
	return managerOf(event), with(event, conformance.Operation{"op": "getEvent"})
}

func managerOf(event conformance.Operation) string { return event.Text("eventID")[:3] + "M0001" }

// with returns an operation with an event's parameters added.
func with(event, operation conformance.Operation) conformance.Operation {
	for name, value := range event {
		operation[name] = value
	}
	return operation
}

// ask sends a request, again if need be, and compares the answer with the model's.
func (w *writer) ask(as string, operation conformance.Operation) {
	expected, err := w.model.Do(context.Background(), as, operation)
	if err != nil {
		w.gaveUp = fmt.Errorf("the model: %w", err)
		return
	}
	op := operation["op"]
	write := op != "getBookingSchedule" && op != "getEvent"
	if write {
		operation["key"] = fmt.Sprintf("%s-%d-%d", w.traffic.run, w.number, w.sent)
	}
	w.sent++
	begin := time.Now()
	answer, err := w.answer(as, operation)
	if err != nil {
		w.gaveUp = fmt.Errorf("%v by %s: %w", operation, as, err)
		return
	}
	w.mu.Lock()
	w.samples = append(w.samples, sample{begin, time.Now(), write})
	if write && w.traffic.keeps {
		w.writes = append(w.writes, written{as, operation, answer})
	}
	w.mu.Unlock()
	w.traffic.done.Add(1)
	if problem := compare(expected, answer); problem != "" {
		w.traffic.wrong.add("%v by %s: %s", operation, as, problem)
	}
}

// answer sends a request until it has an answer that says what became of it.
func (w *writer) answer(as string, operation conformance.Operation) (conformance.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the end of the traffic does not cut it short
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, attemptDeadline)
		answer, err := w.traffic.targets[w.target].Do(attempt, as, operation)
		end()
		switch {
		case err != nil:
			w.traffic.broken.add("%v by %s: %v", operation, as, err)
			w.target = (w.target + 1) % len(w.traffic.targets)
		case isFailure(answer):
			w.traffic.failed.add("%v by %s: %d %v", operation, as, answer.Status, answer.Body)
		default:
			return answer, nil
		}
		timer := time.NewTimer(retryPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return answer, fmt.Errorf("no answer within %v", patience)
		}
	}
}

// isFailure tells whether an answer says that the system did not do its work, rather than what came of the request.
func isFailure(answer conformance.Answer) bool { return answer.Status >= 500 || answer.Status == 429 }

// compare returns how an answer of the cluster differs from the model's, "" if it does not.
func compare(model, answer conformance.Answer) string {
	if body, _ := model.Body.(map[string]any); (body["code"] != nil) != (answer.Status >= 400) {
		return fmt.Sprintf("%d %v, want %v", answer.Status, answer.Body, model.Body)
	}
	return conformance.Want{Status: answer.Status, Body: model.Body}.Mismatch(answer)
}
