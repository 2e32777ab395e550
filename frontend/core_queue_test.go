package frontend

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

func TestQueue(t *testing.T) {
	q := queue{filled: make(chan struct{}, 1)}
	if q.take(5) != nil {
		t.Error("took something from an empty queue")
	}
	var waiters []*pending
	for range queueLimit {
		waiter := &pending{}
		waiters = append(waiters, waiter)
		if !q.add(waiter) {
			t.Fatalf("full after %d", len(waiters))
		}
	}
	if q.add(&pending{}) {
		t.Error("took more than the limit")
	}
	taken := q.take(dems.MaxBatchCommands)
	if len(taken) != dems.MaxBatchCommands || taken[0] != waiters[0] || taken[len(taken)-1] != waiters[len(taken)-1] {
		t.Error("took not the first")
	}
	q.putBack(taken[100:200])
	again := q.take(101)
	if again[0] != waiters[100] || again[99] != waiters[199] || again[100] != waiters[dems.MaxBatchCommands] {
		t.Error("what was put back does not come first")
	}
	gone := waiters[dems.MaxBatchCommands+1]
	q.remove(gone)
	q.remove(gone)
	if next := q.take(1); next[0] != waiters[dems.MaxBatchCommands+2] {
		t.Error("what was removed is still there")
	}
	ctx, cancel := context.WithCancel(context.Background())
	if !q.wait(ctx) {
		t.Error("waits although something is there")
	}
	q.take(queueLimit)
	cancel()
	if q.wait(ctx) {
		t.Error("something is there although it was taken")
	}
}

func TestQueueOverflows(t *testing.T) {
	ready(t, 3, func(h *harness) {
		old := h.w.suspendLeadership()
		time.Sleep(2 * pollInterval) // until the front end knows
		results := make([]<-chan outcome, queueLimit)
		for i := range results {
			results[i] = h.background(addEvent(i%100, 5))
		}
		synctest.Wait()
		started := time.Now()
		_, err := h.do(addEvent(1, 5))
		refused, ok := errors.AsType[*dems.Error](err)
		if !ok || refused.Code != dems.Unavailable || !strings.Contains(refused.Detail, "Too many") || time.Since(started) > 0 {
			t.Errorf("got %v after %v", err, time.Since(started))
		}
		h.w.elect(old)
		for _, result := range results {
			h.await(result, time.Second)
		}
		h.must(addEvent(101, 5), 0)
	})
}

// Requests that were given up take no place and are never applied.
func TestCancelledRequestsLeaveNothingBehind(t *testing.T) {
	ready(t, 3, func(h *harness) {
		old := h.w.suspendLeadership()
		time.Sleep(2 * pollInterval) // until the front end knows
		var cancels []context.CancelFunc
		results := make(chan error, 2*queueLimit)
		for range 2 { // twice as many as there are places
			for i := range queueLimit {
				ctx, cancel := context.WithCancel(context.Background())
				cancels = append(cancels, cancel)
				go func() {
					_, err := h.core.Do(ctx, addEvent(i%100, 5))
					results <- err
				}()
			}
			synctest.Wait()
			for _, cancel := range cancels {
				cancel()
			}
			for range cancels {
				if err := <-results; dems.CodeOf(err) != dems.Unavailable || strings.Contains(err.Error(), "Too many") {
					t.Fatalf("got %v", err)
				}
			}
			cancels = nil
		}
		if waiting := h.core.proposer.queue.take(queueLimit); waiting != nil {
			t.Errorf("%d commands wait that nobody waits for", len(waiting))
		}
		h.w.elect(old)
		h.must(addEvent(101, 5), 50*time.Millisecond)
		for i := range 100 {
			h.wantApplied(addEvent(i, 5), 0)
		}
	})
}

// A command whose waiter went away while it was proposed is not proposed again once it is known not to be applied.
func TestGivenUpWhileProposed(t *testing.T) {
	ready(t, 3, func(h *harness) {
		refuse := make(chan struct{})
		h.w.tell(h.node(1), lies{propose: func(ctx context.Context, _ []byte, _ proposal) (dems.BatchReply, error) {
			select {
			case <-refuse:
			case <-ctx.Done():
			}
			return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotApplied}
		}})
		ctx, cancel := context.WithCancel(context.Background())
		given := make(chan error, 1)
		go func() {
			_, err := h.core.Do(ctx, addEvent(1, 5))
			given <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-given; dems.CodeOf(err) != dems.Indeterminate {
			t.Errorf("got %v", err)
		}
		close(refuse)
		h.w.tell(h.node(1), lies{})
		h.must(addEvent(2, 5), time.Second)
		h.wantApplied(addEvent(1, 5), 0)
	})
}

// stopping is what may be going on when a front end stops.
var stopping = map[string]func(h *harness){
	"nothing wrong":   func(*harness) {},
	"no leader":       func(h *harness) { h.w.suspendLeadership() },
	"leader hangs":    func(h *harness) { h.w.tell(h.node(1), lies{propose: hangAfter, mute: true, keeps: true}) },
	"everybody hangs": func(h *harness) { h.eachNode(func(n *fakeNode) { h.w.set(n, hanging) }) },
	"everybody dead":  func(h *harness) { h.eachNode(func(n *fakeNode) { h.w.set(n, dead) }) },
	"everybody late":  func(h *harness) { h.eachNode(func(n *fakeNode) { h.w.setLate(n, true) }) },
	"nobody ready":    func(h *harness) { h.eachNode(func(n *fakeNode) { h.w.change(func() { n.unready = true }) }) },
}

func (h *harness) eachNode(visit func(n *fakeNode)) {
	for _, n := range h.w.nodes {
		visit(n)
	}
}

func TestRunEndsWhateverIsGoingOn(t *testing.T) {
	for name, prepare := range stopping {
		for _, opened := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				simulate(t, 3, func(h *harness) {
					if opened {
						h.awaitReady(h.core)
					}
					prepare(h)
					background := context.Background() // nothing but the end of the core ends the requests
					var done []<-chan error
					request := func(ask func() error) {
						result := make(chan error, 1)
						done = append(done, result)
						go func() { result <- ask() }()
					}
					for i := range 5 {
						request(func() error { _, err := h.core.Do(background, addEvent(i, 5)); return err })
						request(func() error { _, err := h.core.Read(background, getEvent(i)); return err })
					}
					request(func() error { _, err := h.core.Registry(background); return err })
					request(func() error { h.core.Cities(background); return nil })
					request(func() error { _, err := h.core.CityLog(background, toronto, 0); return err })
					request(func() error { h.core.Checks(background); return nil })
					time.Sleep(333 * time.Millisecond)
					h.stop()
					started := time.Now()
					for _, result := range done {
						err := <-result
						if code := dems.CodeOf(err); code != dems.OK && code != dems.Unavailable && code != dems.Indeterminate {
							t.Errorf("got %v", err)
						}
					}
					if took := time.Since(started); took > pollTimeout {
						t.Errorf("requests were answered %v after the end", took)
					}
					for address, dialled := range h.w.dialled {
						if closed := h.w.closed[address]; closed != dialled {
							t.Errorf("%s was dialled %d times and closed %d times", address, dialled, closed)
						}
					}
				})
			})
		}
	}
}

func TestAfterTheEnd(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.stop()
		background := context.Background()
		started := time.Now()
		check := func(what string, err error) {
			if dems.CodeOf(err) != dems.Unavailable {
				t.Errorf("%s: got %v", what, err)
			}
		}
		_, err := h.core.Do(background, addEvent(1, 5))
		check("Do", err)
		_, err = h.core.Read(background, getEvent(1))
		check("Read", err)
		_, err = h.core.Registry(background)
		check("Registry", err)
		_, err = h.core.CityLog(background, toronto, 0)
		check("CityLog", err)
		h.eachNode(func(n *fakeNode) { h.w.set(n, dead) })
		check("Transfer", h.core.Transfer(background, "n2"))
		if took := time.Since(started); took > 200*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// What is asked before Run waits for it.
func TestBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		core, err := NewCore(Config{ID: "fe1", Nodes: w.addresses(), Dial: w.dial, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error, 2)
		go func() { _, err := core.Do(context.Background(), addEvent(1, 5)); results <- err }()
		go func() { _, err := core.Read(context.Background(), getEvent(1)); results <- err }()
		synctest.Wait()
		if core.knowsCities() {
			t.Error("cities are known before Run")
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- core.Run(ctx) }()
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	valid := Config{ID: "fe1", Nodes: []string{"a:1", "b:1"}, Dial: newWorld(t, 1).dial, Logger: slog.New(slog.DiscardHandler)}
	if _, err := NewCore(valid); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no ID":          {func(c *Config) { c.ID = "" }, "front end ID"},
		"bad ID":         {func(c *Config) { c.ID = "FE 1" }, "front end ID"},
		"no nodes":       {func(c *Config) { c.Nodes = nil }, "no nodes"},
		"node twice":     {func(c *Config) { c.Nodes = []string{"a:1", "a:1"} }, "a:1 stands twice"},
		"empty address":  {func(c *Config) { c.Nodes = []string{"a:1", ""} }, `node ""`},
		"no dial":        {func(c *Config) { c.Dial = nil }, "dialler"},
		"no logger":      {func(c *Config) { c.Logger = nil }, "logger"},
		"reply mode":     {func(c *Config) { c.Reply = "never" }, "reply mode"},
		"no batches":     {func(c *Config) { c.BatchesInFlight = -1 }, "batches in flight"},
		"many batches":   {func(c *Config) { c.BatchesInFlight = dems.MaxBatchesInFlight + 1 }, "batches in flight"},
		"long address":   {func(c *Config) { c.Address = strings.Repeat("x", dems.MaxNameBytes+1) }, "address"},
		"long version":   {func(c *Config) { c.Version = strings.Repeat("x", dems.MaxNameBytes+1) }, "version"},
		"long node name": {func(c *Config) { c.Nodes = []string{strings.Repeat("x", dems.MaxNameBytes+1)} }, "node"},
	} {
		t.Run(name, func(t *testing.T) {
			config := valid
			test.change(&config)
			if _, err := NewCore(config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want something about %q", err, test.want)
			}
		})
	}
}
