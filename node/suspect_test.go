package node

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dems"

	"github.com/hashicorp/raft"
)

func TestPatience(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var s slowest
	for _, step := range []struct {
		after, took, want time.Duration // took 0: no answer
	}{
		{0, 0, maxPatience}, // it has never answered
		{0, time.Millisecond, minPatience},
		{10 * time.Millisecond, 15 * time.Millisecond, 60 * time.Millisecond},
		{20 * time.Millisecond, time.Millisecond, 60 * time.Millisecond},
		{30 * time.Millisecond, time.Second, maxPatience},
		{recently + time.Millisecond, 20 * time.Millisecond, maxPatience},
		{2*recently + 2*time.Millisecond, 0, 80 * time.Millisecond}, // the slow answer is forgotten
		{5 * recently, 0, maxPatience},                              // and in the end all of them
	} {
		now := start.Add(step.after)
		if step.took > 0 {
			s.add(now, step.took)
		}
		if got := s.patience(now); got != step.want {
			t.Errorf("after %v: %v, want %v", step.after, got, step.want)
		}
	}
}

func TestBestPlaced(t *testing.T) {
	t.Parallel()
	of := func(id dems.NodeID, term, index uint64) voice {
		return voice{id, dems.Opinion{Agrees: true, LastTerm: term, LastIndex: index}}
	}
	none, second := map[dems.NodeID]bool{}, map[dems.NodeID]bool{"n2": true}
	for _, c := range []struct {
		voices []voice
		passed map[dems.NodeID]bool
		want   dems.NodeID
	}{
		{[]voice{of("n2", 3, 10)}, none, "n2"},
		{[]voice{of("n3", 3, 10), of("n2", 3, 10), of("n4", 3, 10)}, none, "n2"},
		{[]voice{of("n2", 3, 10), of("n3", 3, 11)}, none, "n3"},
		{[]voice{of("n2", 3, 99), of("n3", 4, 1), of("n4", 3, 100)}, none, "n3"},
		{[]voice{of("n2", 3, 10), of("n3", 3, 10), of("n4", 3, 10)}, second, "n3"},
		{[]voice{of("n2", 3, 10), of("n3", 3, 10)}, map[dems.NodeID]bool{"n2": true, "n3": true}, "n2"},
		{[]voice{of("n2", 3, 11), of("n3", 3, 10), of("n4", 2, 12)}, second, "n2"}, // it would not vote for another one
	} {
		if got := best(c.voices, func(id dems.NodeID) bool { return c.passed[id] }); got != c.want {
			t.Errorf("%+v without %v: %s, want %s", c.voices, c.passed, got, c.want)
		}
	}
}

// answers is a leader that answers with these errors in turn, and then that it leads.
type answers struct {
	errors []error
	asked  int
}

func (a *answers) Suspect(context.Context, dems.Suspicion) (dems.Opinion, error) {
	a.asked++
	if a.asked <= len(a.errors) {
		return dems.Opinion{}, a.errors[a.asked-1]
	}
	return dems.Opinion{}, nil
}

func TestAsksLeader(t *testing.T) {
	broken := replicaError(dems.UnknownOutcome, errors.New("connection broke"))
	for name, c := range map[string]struct {
		errors      []error
		leads, came bool
		asked       int
	}{
		"it leads":              {nil, true, true, 1},
		"the connection broke":  {[]error{broken, replicaError(dems.NotApplied, nil)}, true, true, 3},
		"it starts again":       {[]error{broken, replicaError(dems.NotReady, errStarting)}, false, true, 2},
		"it is older than this": {[]error{replicaError(dems.BadRequest, nil)}, true, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				leader := &answers{errors: c.errors}
				leads, came := asksLeader(t.Context(), leader, dems.Suspicion{})
				if leads != c.leads || came != c.came || leader.asked != c.asked {
					t.Errorf("leads %t, came %t, asked %d times; want %+v", leads, came, leader.asked, c)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // reached, and never reached
		ctx, cancel := context.WithTimeout(t.Context(), maxLook)
		defer cancel()
		began := time.Now()
		_, came := asksLeader(ctx, &answers{}, dems.Suspicion{})
		if !came || time.Since(began) != 0 {
			t.Errorf("came %t after %v", came, time.Since(began))
		}
		unreachable := &answers{}
		for range 2 * maxLook / askAgain {
			unreachable.errors = append(unreachable.errors, broken)
		}
		if _, came := asksLeader(ctx, unreachable, dems.Suspicion{}); came || time.Since(began) != maxLook {
			t.Errorf("came %t after %v, want no answer and %v", came, time.Since(began), maxLook)
		}
	})
}

// TestLooksAreShared has many ask: all wait for the look that is under way, or for one to come.
func TestLooksAreShared(t *testing.T) {
	t.Parallel()
	o := newLookout()
	s := dems.Suspicion{Leader: "n1", Term: 5}
	next := o.join(s)
	if o.join(s) != next || len(o.wanted) != 1 {
		t.Fatalf("two looks were asked for, %d wanted", len(o.wanted))
	}
	current, _ := o.begin(s)
	if current != next || o.join(s) != current {
		t.Fatal("the look under way is not the one that was asked for")
	}
	if other := o.join(dems.Suspicion{Leader: "n2", Term: 6}); other == current {
		t.Fatal("a look at another leader is shared")
	}
	current.decide(true)
	current.decide(false) // too late
	if !current.gone || o.join(s) != current {
		t.Error("while no answer has come the leader does not answer")
	}
	o.end(0)
	if o.join(s) == current {
		t.Error("a look that is over is shared")
	}
}

func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watchdog{limit: time.Second}
		var group sync.WaitGroup
		write := func(takes time.Duration) {
			group.Go(func() {
				_ = w.write(func() error {
					time.Sleep(takes) // of the bubble's clock
					return nil
				})
			})
		}
		check := func(want bool) {
			t.Helper()
			synctest.Wait()
			if w.stalled() != want {
				t.Errorf("stalled: %t", !want)
			}
		}
		check(false)
		write(1500 * time.Millisecond)
		write(2 * time.Second) // waits for the other one
		time.Sleep(999 * time.Millisecond)
		check(false)
		time.Sleep(2 * time.Millisecond)
		check(true)
		time.Sleep(500 * time.Millisecond) // the first one ends: there is progress
		check(false)
		group.Wait()
		check(false)
		group.Go(func() { // a write that fails ends its goroutine
			_ = w.write(func() error {
				runtime.Goexit()
				return nil
			})
		})
		time.Sleep(time.Hour)
		check(false)
	})
}

// TestStalledLeaderSendsNothing opens a pipeline while all is well and then has the disk hang.
func TestStalledLeaderSendsNothing(t *testing.T) {
	t.Parallel()
	inner, err := raft.NewTCPTransport("127.0.0.1:0", nil, 2, 10*time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	stalled := false
	transport := newRaftTransport(inner, func() bool { return stalled })
	pipeline, err := transport.AppendEntriesPipeline("n2.1", inner.LocalAddr()) // to itself: nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer pipeline.Close()
	if err := appendMessage(pipeline, 1); err != nil {
		t.Fatal(err)
	}
	stalled = true
	if err := appendMessage(pipeline, 2); !errors.Is(err, errStalled) {
		t.Errorf("an open pipeline: %v", err)
	}
	if _, err := transport.AppendEntriesPipeline("n2.1", inner.LocalAddr()); !errors.Is(err, errStalled) {
		t.Errorf("a new pipeline: %v", err)
	}
	if err := transport.AppendEntries("n2.1", inner.LocalAddr(), nil, nil); !errors.Is(err, errStalled) {
		t.Errorf("heartbeats and entries: %v", err)
	}
	if err := transport.InstallSnapshot("n2.1", inner.LocalAddr(), nil, nil, nil); !errors.Is(err, errStalled) {
		t.Errorf("snapshots: %v", err)
	}
}
