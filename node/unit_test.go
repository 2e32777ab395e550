package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/transport"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func TestRaftErrorsAreClassifiedByAllowList(t *testing.T) {
	for _, test := range []struct {
		err  error
		want dems.ReplicaErrorKind
	}{
		{raft.ErrNotLeader, dems.NotLeader},
		{raft.ErrEnqueueTimeout, dems.NotApplied},
		{raft.ErrLeadershipTransferInProgress, dems.NotApplied},
		{raft.ErrLeadershipLost, dems.UnknownOutcome},
		{raft.ErrRaftShutdown, dems.UnknownOutcome},
		{raft.ErrAbortedByRestore, dems.UnknownOutcome},
		{context.DeadlineExceeded, dems.UnknownOutcome},
		{errors.New("anything else"), dems.UnknownOutcome},
	} {
		got, ok := errors.AsType[*dems.ReplicaError](raftError(fmt.Errorf("wrapped: %w", test.err), "n2"))
		if !ok || got.Kind != test.want || !errors.Is(got, test.err) || (got.Leader == "n2") != (test.want == dems.NotLeader) {
			t.Errorf("%v: %+v", test.err, got)
		}
	}
}

func TestAppliedIndexWakesWhoeverItReaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var applied appliedIndex
		var mu sync.Mutex
		woken := make(map[uint64]bool)
		var group sync.WaitGroup
		for _, index := range []uint64{5, 3, 9, 7, 3, 20} {
			group.Go(func() {
				if applied.wait(t.Context(), index) == nil {
					mu.Lock()
					defer mu.Unlock()
					woken[index] = true
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := applied.wait(ctx, 100); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		applied.advance(7)
		applied.advance(4) // never goes back
		synctest.Wait()
		mu.Lock()
		if fmt.Sprint(woken) != "map[3:true 5:true 7:true]" || applied.get() != 7 || len(applied.waiters) != 2 {
			t.Errorf("woken %v at %d, %d wait", woken, applied.get(), len(applied.waiters))
		}
		mu.Unlock()
		applied.advance(20)
		group.Wait()
		if err := applied.wait(t.Context(), 20); err != nil || len(applied.waiters) != 0 {
			t.Error(err)
		}
	})
}

func ballots(session uint64, first, last, size int) []ballot {
	var all []ballot
	for number := first; number <= last; number++ {
		vote := dems.Vote{Index: uint64(number), Session: session, Batch: uint64(number)}
		all = append(all, ballot{vote: vote, results: make([]byte, size)})
	}
	return all
}

func TestRingForgetsTheOldest(t *testing.T) {
	r := newRing()
	r.publish(ballots(1, 1, ringBallots+10, 1))
	if _, found := r.find(1, 10); found || r.size() != ringBallots {
		t.Fatalf("batch 10 is still there, %d bytes", r.size())
	}
	if b, found := r.find(1, 11); !found || b.vote.Index != 11 {
		t.Fatalf("batch 11: %+v %v", b, found)
	}
	again := ballots(1, 11, 11, 1)
	again[0].vote.Index = 9999 // the same batch, proposed twice
	r.publish(again)
	if b, found := r.find(1, 11); !found || b.vote.Index != 9999 {
		t.Fatalf("batch 11: %+v %v", b, found)
	}
	r.publish(ballots(2, 1, 3, ringBytes/2))
	if b, found := r.find(2, 3); !found || len(b.results) != ringBytes/2 || r.size() > ringBytes {
		t.Fatalf("%v, %d bytes", found, r.size())
	}
	if _, found := r.find(2, 1); found || len(r.latest) != 2 {
		t.Fatalf("%d batches", len(r.latest))
	}
	r.publish(ballots(3, 1, 1, ringBytes+1)) // more than fits: it alone
	if _, found := r.find(3, 1); !found || r.next-r.first != 1 {
		t.Fatal("the largest results are not kept")
	}
}

func TestSubscribersGetTheReplayAndThenEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing()
		r.publish(ballots(1, 1, 3, 1))
		r.publish(ballots(2, 4, 5, 1))
		ctx, cancel := context.WithCancel(t.Context())
		var got []uint64
		done := make(chan error, 1)
		go func() {
			done <- r.stream(ctx, nil, 1, func(votes []dems.Vote) error {
				for _, vote := range votes {
					got = append(got, vote.Index)
				}
				return nil
			})
		}()
		synctest.Wait()
		r.publish(ballots(2, 6, 6, 1))
		r.publish(ballots(1, 7, 7, 1))
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || fmt.Sprint(got) != "[1 2 3 6 7]" || len(r.subscribers) != 0 {
			t.Fatalf("%v, got %v, %d subscribers", err, got, len(r.subscribers))
		}
	})
}

func TestSlowSubscribersAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRing()
		blocked := make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- r.stream(t.Context(), nil, 1, func([]dems.Vote) error {
				<-blocked
				return nil
			})
		}()
		synctest.Wait()
		r.publish(ballots(1, 1, 1, 1))
		synctest.Wait()
		for first := 2; first < 2+subscriberVotes; first += 1024 {
			r.publish(ballots(1, first, first+1023, 1))
		}
		r.publish(ballots(1, 1, 1, 1))
		close(blocked)
		if err := <-done; !errors.Is(err, errTooSlow) {
			t.Fatal(err)
		}
	})
}

func TestStreamsEnd(t *testing.T) {
	r := newRing()
	stopped := make(chan struct{})
	close(stopped)
	for range 20 { // whichever is seen first
		err := r.stream(t.Context(), stopped, 5, nil)
		if !errors.Is(err, errStopping) {
			t.Fatal(err)
		}
	}
	r.publish(ballots(1, 1, 1, 1))
	failing := errors.New("the reader is gone")
	if err := r.stream(t.Context(), nil, 1, func([]dems.Vote) error { return failing }); !errors.Is(err, failing) {
		t.Fatal(err)
	}
	for range maxSubscribers {
		if _, ok := r.subscribe(1); !ok {
			t.Fatal("refused below the limit")
		}
	}
	if err := r.stream(t.Context(), nil, 1, nil); !errors.Is(err, errBusy) {
		t.Fatal(err)
	}
}

func TestCommitsAreAnnouncedWhenNothingElseIsInFlight(t *testing.T) {
	a := newAnnouncer([]dems.NodeID{"n2", "n3"})
	sent := func(id dems.NodeID) uint64 {
		select {
		case n := <-a.mailboxes[id]:
			return n.index
		default:
			return 0
		}
	}
	a.begin()
	a.begin()
	a.end(notice{5, 1})
	if got := sent("n2"); got != 0 {
		t.Fatalf("announced %d while a proposal is in flight", got)
	}
	a.end(notice{}) // that one failed
	if n2, n3 := sent("n2"), sent("n3"); n2 != 5 || n3 != 5 {
		t.Fatalf("announced %d and %d, want 5", n2, n3)
	}
	a.begin()
	a.end(notice{6, 1})
	a.begin()
	a.end(notice{7, 1}) // nobody has read 6
	a.begin()
	a.end(notice{})
	if n2, n3 := sent("n2"), sent("n3"); n2 != 7 || n3 != 7 || sent("n2") != 0 {
		t.Fatalf("announced %d and %d, want 7", n2, n3)
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		inside := make(chan struct{})
		if !g.start(func() { <-inside }) {
			t.Fatal("closed from the beginning")
		}
		if g.close(time.Minute) {
			t.Fatal("closed while somebody is inside")
		}
		if g.start(func() { t.Error("started") }) {
			t.Fatal("lets in after it was closed")
		}
		close(inside)
		if !g.close(time.Minute) {
			t.Fatal("does not see that nobody is inside")
		}
	})
}

func TestConfigIsValidated(t *testing.T) {
	good := func() Config {
		config := DefaultConfig()
		config.ID, config.DataDir, config.Cities = "n1", "data", dems.DefaultCities()
		config.Peers = map[dems.NodeID]string{"n1": "a:1", "n2": "b:1"}
		config.Endpoint = &transport.Endpoint{}
		return config
	}
	if config := good(); config.Validate() != nil || config.majority() != 2 || fmt.Sprint(config.peers()) != "[n2]" {
		t.Fatal(config.Validate())
	}
	for want, change := range map[string]func(*Config){
		"node ID":                  func(c *Config) { c.ID = "N1" },
		"do not include":           func(c *Config) { c.ID = "n9" },
		"HOST:PORT":                func(c *Config) { c.Peers["n2"] = "" },
		"data folder":              func(c *Config) { c.DataDir = "" },
		"cities":                   func(c *Config) { c.Cities = nil },
		"endpoint":                 func(c *Config) { c.Endpoint = nil },
		"at most 255 bytes":        func(c *Config) { c.Version = strings.Repeat("v", 256) },
		"lease":                    func(c *Config) { c.LeaderLease = time.Hour },
		"timeout and interval":     func(c *Config) { c.WaitTimeout = 0 },
		"every limit is positive":  func(c *Config) { c.MaxProposals = 0 },
		"every limit is positive ": func(c *Config) { c.SnapshotThreshold = 0 },
	} {
		config := good()
		change(&config)
		err := config.Validate()
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%s: %v", want, err)
		}
		if _, opened := Open(t.Context(), config); opened == nil {
			t.Errorf("%s: opened", want)
		}
	}
}

func TestRaftLogIsPassedOnWithoutItsRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger := newRaftLogger(slog.New(slog.NewTextHandler(&out, nil)))
		for range 5 {
			logger.Error("failed to heartbeat to", "peer", "n2", "backoff time", time.Second)
			logger.With("x", 1).Named("more").Warn("failed to heartbeat to", "peer", "n3")
			logger.Info("for developers")
			logger.Warn(overtaken, "previous-index", 7)
		}
		if lines := strings.Count(out.String(), "\n"); lines != 2 {
			t.Fatalf("%d lines:\n%s", lines, out.String())
		}
		time.Sleep(repeatPause)
		logger.Warn("again", "servers", hclog.Fmt("%+v", []int{1}))
		logger.Error("failed to heartbeat to", "peer", "n2")
		if lines := strings.Count(out.String(), "\n"); lines != 4 || !strings.Contains(out.String(), "servers=[1]") {
			t.Fatalf("%d lines:\n%s", lines, out.String())
		}
		for i := range 3 * maxComplaints {
			logger.Warn(fmt.Sprint("complaint ", i))
		}
		if len(logger.recent.last) > maxComplaints || logger.GetLevel() != hclog.Warn || logger.IsDebug() || !logger.IsError() {
			t.Fatalf("%d complaints, level %v", len(logger.recent.last), logger.GetLevel())
		}
	})
}
