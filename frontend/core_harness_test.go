package frontend

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"dems"
)

// harness is a front end's core that runs on a fake world, in a bubble in which time passes only while everything
// waits. The bubble ends when every goroutine has; a leak is a deadlock that fails the test.
type harness struct {
	t     *testing.T
	w     *world
	core  *Core
	stops []func()
}

// requestDeadline is how long a request may take in the tests, nearly as in the REST layer. It is no multiple of what else
// happens in time, so that nothing else happens at the same moment.
const requestDeadline = 10*time.Second + 3333*time.Microsecond

// simulate runs body with a front end on a world of so many nodes.
func simulate(t *testing.T, nodes int, body func(h *harness), options ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, w: newWorld(t, nodes)}
		defer h.stop()
		h.core = h.start("fe1", options...)
		body(h)
	})
}

// ready is simulate with a front end that has opened its session and learned the cities.
func ready(t *testing.T, nodes int, body func(h *harness), options ...func(*Config)) {
	t.Helper()
	simulate(t, nodes, func(h *harness) {
		h.awaitReady(h.core)
		body(h)
	}, options...)
}

// start starts another front end.
func (h *harness) start(id string, options ...func(*Config)) *Core {
	h.t.Helper()
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("DEMS_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	config := Config{ID: id, Address: "http://" + id, Nodes: h.w.addresses(), Dial: h.w.dial, Logger: logger, BatchesInFlight: 2}
	for _, option := range options {
		option(&config)
	}
	core, err := NewCore(config)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- core.Run(ctx) }()
	stopped := false
	h.stops = append(h.stops, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		started := time.Now()
		if err := <-done; err != nil {
			h.t.Errorf("Run returned %v", err)
		}
		if took := time.Since(started); took > 0 {
			h.t.Errorf("Run took %v to end", took)
		}
	})
	return core
}

func (h *harness) stop() {
	for _, stop := range h.stops {
		stop()
	}
}

func (h *harness) awaitReady(core *Core) {
	h.t.Helper()
	for range 1000 {
		if core.knowsCities() && core.proposer.open.Load() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	h.t.Fatal("the front end is not ready")
}

func (h *harness) node(number int) *fakeNode { return h.w.nodes[number-1] }

// do sends a command within requestDeadline.
func (h *harness) do(command dems.Command) (Reply, error) { return h.doAt(h.core, command) }

func (h *harness) doAt(core *Core, command dems.Command) (Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	if command.Op.Mutates() {
		return core.Do(ctx, command)
	}
	return core.Read(ctx, command)
}

// must sends a command that has to succeed within so much time.
func (h *harness) must(command dems.Command, within time.Duration) Reply {
	h.t.Helper()
	return h.mustAt(h.core, command, within)
}

func (h *harness) mustAt(core *Core, command dems.Command, within time.Duration) Reply {
	h.t.Helper()
	started := time.Now()
	reply, err := h.doAt(core, command)
	if err != nil {
		h.t.Fatalf("%s: %v", command.Op, err)
	}
	if reply.Result.Code != dems.OK {
		h.t.Fatalf("%s: refused: %v", command.Op, reply.Result.Code)
	}
	if took := time.Since(started); took > within {
		h.t.Errorf("%s took %v, more than %v", command.Op, took, within)
	}
	return reply
}

// fails sends a command that has to fail with a code after so much time at the most.
func (h *harness) fails(command dems.Command, want dems.Code, within time.Duration) {
	h.t.Helper()
	started := time.Now()
	reply, err := h.do(command)
	if dems.CodeOf(err) != want {
		h.t.Errorf("%s: got %+v and %v, want %s", command.Op, reply, err, want)
	}
	if took := time.Since(started); took > within {
		h.t.Errorf("%s took %v to fail, more than %v", command.Op, took, within)
	}
}

// outcome is the answer to a command that was sent in the background.
type outcome struct {
	reply Reply
	err   error
	took  time.Duration
}

// background sends a command and returns where its outcome comes.
func (h *harness) background(command dems.Command) <-chan outcome {
	result := make(chan outcome, 1)
	go func() {
		started := time.Now()
		reply, err := h.do(command)
		result <- outcome{reply, err, time.Since(started)}
	}()
	return result
}

// await takes the outcome of a command that has to succeed within so much time.
func (h *harness) await(result <-chan outcome, within time.Duration) Reply {
	h.t.Helper()
	got := <-result
	if got.err != nil || got.reply.Result.Code != dems.OK {
		h.t.Fatalf("got %+v and %v", got.reply, got.err)
	}
	if got.took > within {
		h.t.Errorf("took %v, more than %v", got.took, within)
	}
	return got.reply
}

// awaitCode takes the outcome of a command that has to fail.
func (h *harness) awaitCode(result <-chan outcome, want dems.Code) {
	h.t.Helper()
	if got := <-result; dems.CodeOf(got.err) != want {
		h.t.Errorf("got %+v and %v, want %s", got.reply, got.err, want)
	}
}

// applied returns how often the log orders a command of that time and key, and how often it took effect.
func (h *harness) applied(command dems.Command) (ordered, effective int) {
	h.t.Helper()
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	seen := map[[2]uint64]bool{}
	for _, data := range h.w.log {
		entry, err := dems.DecodeEntry(data)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, c := range entry.Batch.Commands {
			if c == command {
				ordered++
				if batch := [2]uint64{entry.Batch.Session, entry.Batch.Number}; !seen[batch] {
					seen[batch] = true
					effective++
				}
			}
		}
	}
	return ordered, effective
}

func (h *harness) wantApplied(command dems.Command, times int) {
	h.t.Helper()
	if ordered, effective := h.applied(command); effective != times {
		h.t.Errorf("%s took effect %d times (ordered %d times), want %d", command.Op, effective, ordered, times)
	}
}

func (h *harness) wantVotes(reply Reply, agreeing, asked int) {
	h.t.Helper()
	if reply.Agreeing != agreeing || reply.Asked != asked {
		h.t.Errorf("votes %d/%d, want %d/%d", reply.Agreeing, reply.Asked, agreeing, asked)
	}
}

func (h *harness) wantView(reply Reply, capacity, booked uint32) {
	h.t.Helper()
	if reply.Result.Event.Capacity != capacity || reply.Result.Event.Booked != booked {
		h.t.Errorf("event %+v, want capacity %d and %d booked", reply.Result.Event, capacity, booked)
	}
}

func equal(t *testing.T, want, got any) {
	t.Helper()
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("-want +got:\n%s", difference)
	}
}

// The commands of the tests. Events are numbered; customers too.

var (
	toronto = dems.City{'T', 'O', 'R'}
	manager = dems.UserID{City: toronto, Role: dems.Manager, Number: 1}
)

func testEvent(number int) dems.EventKey {
	return dems.EventKey{Type: dems.Seminar, ID: dems.EventID{
		City: toronto, Slot: dems.Morning, Date: dems.Date{Year: uint8(19 + number/300), Month: uint8(1 + number/25%12), Day: uint8(1 + number%25)},
	}}
}

func testCustomer(number int) dems.UserID {
	return dems.UserID{City: toronto, Role: dems.Customer, Number: uint16(number)}
}

func addEvent(number int, capacity uint32) dems.Command {
	return dems.Command{Op: dems.AddEvent, Time: time.UnixMilli(1000).UTC(), By: manager, Event: testEvent(number), Capacity: capacity}
}

func book(customer, event int) dems.Command {
	return dems.Command{
		Op: dems.BookEvent, Time: time.UnixMilli(2000).UTC(), By: testCustomer(customer), Customer: testCustomer(customer),
		Event: testEvent(event),
	}
}

func getEvent(number int) dems.Command {
	return dems.Command{Op: dems.GetEvent, Time: time.UnixMilli(3000).UTC(), By: manager, Event: testEvent(number)}
}

func schedule(customer int) dems.Command {
	return dems.Command{
		Op: dems.GetBookingSchedule, Time: time.UnixMilli(3000).UTC(), By: testCustomer(customer), Customer: testCustomer(customer),
	}
}

func listEvents() dems.Command {
	return dems.Command{
		Op: dems.ListEventAvailability, Time: time.UnixMilli(3000).UTC(), By: manager, Event: dems.EventKey{Type: dems.Seminar},
	}
}

// keyed returns the command with an idempotency key.
func keyed(command dems.Command, key string) dems.Command {
	command.Key = key
	return command
}

// alterCapacity is a wrong result: every event has more seats than it has.
func alterCapacity(by uint32) func(int, *dems.Result) {
	return func(_ int, result *dems.Result) {
		result.Event.Capacity += by
		result.Code = dems.OK
	}
}
