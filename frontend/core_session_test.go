package frontend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

// forgetSessions makes the nodes forget every session that is open, by opening as many others as they remember.
func (h *harness) forgetSessions() {
	h.w.change(func() {
		for i := range dems.MaxSessions {
			h.w.append(dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{
				ID: "other", Time: time.UnixMilli(0), Session: uint64(i + 1),
			}}))
		}
	})
}

// isBatch tells whether an entry is a batch of commands.
func isBatch(t *testing.T, data []byte) bool {
	entry, err := dems.DecodeEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Kind == dems.BatchEntry
}

func (h *harness) session() uint64 {
	h.core.proposer.mu.Lock()
	defer h.core.proposer.mu.Unlock()
	return h.core.proposer.session
}

func TestSessionIsLost(t *testing.T) {
	ready(t, 3, func(h *harness) {
		first := h.session()
		h.must(addEvent(1, 5), 0)
		for i := range 5 {
			h.forgetSessions()
			h.wantView(h.must(addEvent(2+i, 5), 0), 5, 0)
			h.must(keyed(book(1, 2+i), fmt.Sprint("key", i)), 0)
		}
		if h.session() == first {
			t.Error("the session is still the first one")
		}
	})
}

// A session is lost while several batches are in flight: each finds out for itself, and none fails.
func TestSessionIsLostWithBatchesInFlight(t *testing.T) {
	ready(t, 3, func(h *harness) {
		held := make(chan struct{})
		var mu sync.Mutex
		holding := 0
		h.w.tell(h.node(1), lies{propose: func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
			mu.Lock()
			number := holding
			holding++
			mu.Unlock()
			if number == 0 {
				select {
				case <-held:
				case <-ctx.Done():
				}
			}
			return next(ctx, entry)
		}})
		slow := h.background(addEvent(1, 5))
		synctest.Wait()
		h.forgetSessions()
		fast := h.background(addEvent(2, 5))
		time.Sleep(500 * time.Millisecond)
		close(held)
		h.await(fast, 600*time.Millisecond)
		h.await(slow, 600*time.Millisecond)
		for i := 1; i <= 2; i++ {
			h.wantView(h.must(getEvent(i), 0), 5, 0)
		}
	})
}

// An attempt may have been applied before the session was lost. Only a key of its own protects a command then.
func TestSessionIsLostWithTheOutcomeUnknown(t *testing.T) {
	for name, applied := range map[string]bool{"applied": true, "not applied": false} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				var lose atomic.Bool
				lose.Store(true)
				lie := lies{propose: func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
					if !isBatch(t, entry) || !lose.CompareAndSwap(true, false) {
						return next(ctx, entry)
					}
					if applied { // and whoever saw it has forgotten it
						_, _ = next(ctx, entry)
						h.w.change(func() {
							for _, n := range h.w.nodes {
								clear(n.reported)
							}
						})
					}
					h.forgetSessions()
					return dems.BatchReply{}, errGone
				}}
				lie.mute = true
				h.w.tell(h.node(1), lie)
				h.w.tell(h.node(2), lies{mute: true})
				h.w.tell(h.node(3), lies{mute: true})
				h.fails(addEvent(1, 5), dems.Indeterminate, requestDeadline-time.Second)
				lose.Store(true)
				reply := h.must(keyed(addEvent(2, 5), "k"), requestDeadline-time.Second)
				if reply.Result.Replayed != applied {
					t.Errorf("got %+v, want it replayed: %v", reply, applied)
				}
			})
		})
	}
}

// A command that may have been applied in a lost session is never called unapplied.
func TestExposedCommandIsIndeterminate(t *testing.T) {
	ready(t, 3, func(h *harness) {
		lose := true
		h.w.tell(h.node(1), lies{propose: func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
			switch {
			case lose && isBatch(t, entry):
				lose = false
				h.forgetSessions()
				return dems.BatchReply{}, errGone
			case !isBatch(t, entry): // no new session any more
				h.w.suspendLeadership()
			}
			return next(ctx, entry)
		}})
		h.fails(keyed(addEvent(1, 5), "k"), dems.Indeterminate, requestDeadline)
	})
}

func TestOpeningTheSession(t *testing.T) {
	for name, test := range map[string]struct {
		before func(w *world)
		after  func(h *harness)
	}{
		"no leader at first": {
			func(w *world) { w.leader = nil },
			func(h *harness) { h.w.elect(h.node(3)) },
		},
		"the leader hangs": {
			func(w *world) {
				w.nodes[0].lies.propose = hangAfter
			},
			func(h *harness) { h.w.elect(h.node(3)) },
		},
		"the leader dies": {
			func(w *world) { w.nodes[0].reach = dead },
			func(h *harness) { h.w.elect(h.node(3)) },
		},
		"no majority at first": {
			func(w *world) { w.nodes[1].reach, w.nodes[2].reach = dead, dead },
			func(h *harness) { h.w.set(h.node(3), up) },
		},
		"nobody at first": {
			func(w *world) {
				for _, n := range w.nodes {
					n.reach = dead
				}
			},
			func(h *harness) { h.w.set(h.node(1), up); h.w.set(h.node(3), up) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &harness{t: t, w: newWorld(t, 3)}
				defer h.stop()
				test.before(h.w)
				h.core = h.start("fe1")
				result := h.background(addEvent(1, 5))
				const away = 2300 * time.Millisecond // in the middle of an attempt that nobody answers
				time.Sleep(away)
				test.after(h)
				h.wantView(h.await(result, away+pollInterval), 5, 0)
			})
		})
	}
}

func TestSessionsAreDifferentAndNotZero(t *testing.T) {
	seen := map[uint64]bool{0: true}
	for range 1000 {
		session := newSession()
		if seen[session] {
			t.Fatalf("session %d came before", session)
		}
		seen[session] = true
	}
}

// However batches complete, the numbers in flight stay within the window that the nodes remember.
func TestWindowOfNumbers(t *testing.T) {
	for seed := range uint64(20) {
		window := 1 + int(seed)%dems.MaxBatchesInFlight
		ready(t, 3, func(h *harness) {
			random := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			flying := map[uint64]int{}
			most := 0
			h.w.tell(h.node(1), lies{propose: func(ctx context.Context, data []byte, next proposal) (dems.BatchReply, error) {
				entry, err := dems.DecodeEntry(data)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				number := entry.Batch.Number
				flying[number]++
				most = max(most, len(flying))
				for other := range flying {
					if max(number, other)-min(number, other) >= uint64(window) {
						t.Errorf("batches %d and %d are in flight, the window is %d", number, other, window)
					}
				}
				pause, fail := time.Duration(random.IntN(50))*time.Millisecond, random.IntN(5)
				mu.Unlock()
				time.Sleep(pause)
				reply, err := next(ctx, data)
				mu.Lock()
				if flying[number]--; flying[number] == 0 {
					delete(flying, number)
				}
				mu.Unlock()
				if fail == 0 {
					return dems.BatchReply{}, errGone
				}
				return reply, err
			}})
			var results []<-chan outcome
			for i := range 60 {
				results = append(results, h.background(addEvent(i, 5)))
				time.Sleep(time.Millisecond)
			}
			for i, result := range results {
				h.await(result, requestDeadline)
				h.wantApplied(addEvent(i, 5), 1)
			}
			if window > 1 && most < 2 {
				t.Errorf("at most %d batches were in flight, the window is %d", most, window)
			}
		}, func(c *Config) { c.BatchesInFlight = window })
	}
}
