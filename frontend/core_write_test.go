package frontend

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

func TestMajorityAnswers(t *testing.T) {
	ready(t, 3, func(h *harness) {
		reply := h.must(addEvent(1, 2), 0)
		h.wantView(reply, 2, 0)
		if reply.Result.Outcome != dems.Created || reply.Asked != 3 || reply.Agreeing < 2 {
			t.Errorf("got %+v", reply)
		}
		if reply.Sequence != uint64(h.w.length()) {
			t.Errorf("sequence %d, the log has %d entries", reply.Sequence, h.w.length())
		}
		h.must(book(1, 1), 0)
		h.must(book(2, 1), 0)
		refused, err := h.do(book(3, 1))
		if err != nil || refused.Result.Code != dems.EventFull {
			t.Errorf("a refusal is a majority's answer too: %+v, %v", refused, err)
		}
		h.wantView(h.must(getEvent(1), 0), 2, 2)
	})
}

func TestVotesSayWhoAgreed(t *testing.T) {
	for name, break1 := range map[string]func(h *harness){
		"dead":    func(h *harness) { h.w.set(h.node(3), dead) },
		"hanging": func(h *harness) { h.w.set(h.node(3), hanging) },
		"cut":     func(h *harness) { h.w.set(h.node(3), cut) },
		"late":    func(h *harness) { h.w.setLate(h.node(3), true) },
		"wrong":   func(h *harness) { h.w.tell(h.node(3), lies{results: alterCapacity(1)}) },
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				break1(h)
				h.wantVotes(h.must(addEvent(1, 5), 0), 2, 3)
				for i := range 50 {
					h.must(book(i%5, 1+i/5), 0)
					if i%5 == 4 {
						h.must(addEvent(2+i/5, 5), 0)
					}
				}
			})
		})
	}
}

func TestNobodyWaitsForAVoterThatHangs(t *testing.T) {
	ready(t, 5, func(h *harness) {
		h.w.set(h.node(4), hanging)
		h.w.setLate(h.node(5), true)
		h.wantVotes(h.must(addEvent(1, 5), 0), 3, 5)
		h.wantVotes(h.must(getEvent(1), 0), 3, 5)
	})
}

func TestWrongLeader(t *testing.T) {
	for name, lie := range map[string]lies{
		"wrong results":    {results: alterCapacity(7)},
		"other bytes":      {bytes: func(reply *dems.BatchReply) { reply.Results = append([]byte(nil), reply.Results[1:]...) }},
		"no bytes":         {bytes: func(reply *dems.BatchReply) { reply.Results = nil }},
		"too many bytes":   {bytes: func(reply *dems.BatchReply) { reply.Results = make([]byte, 1<<20) }},
		"results of zero":  {bytes: func(reply *dems.BatchReply) { reply.Results = dems.AppendResults(nil, nil) }},
		"wrong digest":     {vote: func(vote *dems.Vote) { vote.Results[0]++ }},
		"huge index":       {vote: func(vote *dems.Vote) { vote.Index = 1 << 60 }},
		"no digest":        {vote: func(vote *dems.Vote) { vote.Results = dems.Digest{} }},
		"another's name":   {vote: func(vote *dems.Vote) { vote.Node = "n2" }},
		"hangs":            {propose: hangAfter},
		"loses the answer": {propose: loseAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.w.tell(h.node(1), lie)
				for i := range 20 {
					h.wantView(h.must(addEvent(i, 5), patience), 5, 0)
					h.wantApplied(addEvent(i, 5), 1)
					h.wantView(h.must(getEvent(i), 0), 5, 0)
				}
			})
		})
	}
}

// hangAfter takes a proposal and never answers.
func hangAfter(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
	_, _ = next(ctx, entry)
	<-ctx.Done()
	return dems.BatchReply{}, errGone
}

// loseAnswer takes a proposal and breaks the connection.
func loseAnswer(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
	_, _ = next(ctx, entry)
	return dems.BatchReply{}, errGone
}

// A leader that says that it applied a batch, and did not, is doubted and asked again; nobody's request is forgotten.
func TestLeaderOnlySaysThatItApplied(t *testing.T) {
	ready(t, 3, func(h *harness) {
		times := 0
		h.w.tell(h.node(1), lies{propose: func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
			if times++; times <= 2 {
				return dems.BatchReply{Vote: dems.Vote{Node: "n1", Index: 77}, Results: []byte{0}}, nil
			}
			return next(ctx, entry)
		}})
		h.wantView(h.must(addEvent(1, 5), 3*doubt+200*time.Millisecond), 5, 0)
		h.wantApplied(addEvent(1, 5), 1)
	})
}

// The votes of the others are late: the batch is proposed again, and nobody's request is forgotten.
func TestVotesComeLate(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.setLate(h.node(2), true)
		h.w.setLate(h.node(3), true)
		result := h.background(addEvent(1, 5))
		time.Sleep(4 * time.Second)
		h.w.setLate(h.node(2), false)
		h.wantView(h.await(result, 4*time.Second), 5, 0)
		h.wantApplied(addEvent(1, 5), 1)
	})
}

// A cluster that is slow is not burdened with the same batch every second.
func TestSlowCluster(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.eachNode(func(n *fakeNode) { h.w.setLate(n, true) })
		result := h.background(addEvent(1, 5))
		time.Sleep(8 * time.Second)
		if ordered, _ := h.applied(addEvent(1, 5)); ordered > 4 {
			t.Errorf("ordered %d times", ordered)
		}
		h.eachNode(func(n *fakeNode) { h.w.setLate(n, false) })
		h.await(result, 8*time.Second)
		h.wantApplied(addEvent(1, 5), 1)
	})
}

func TestLeaderDies(t *testing.T) {
	const election = 3 * time.Second
	for name, test := range map[string]struct {
		dies func(h *harness, result func() <-chan outcome) <-chan outcome
	}{
		"before the request": {func(h *harness, send func() <-chan outcome) <-chan outcome {
			h.w.retire(h.node(1), dead)
			return send()
		}},
		"hanging before the request": {func(h *harness, send func() <-chan outcome) <-chan outcome {
			h.w.retire(h.node(1), hanging)
			return send()
		}},
		"before the commit": {func(h *harness, send func() <-chan outcome) <-chan outcome {
			h.w.set(h.node(2), cut)
			h.w.tell(h.node(1), lies{propose: func(ctx context.Context, _ []byte, _ proposal) (dems.BatchReply, error) {
				<-ctx.Done()
				return dems.BatchReply{}, errGone
			}})
			result := send()
			h.w.set(h.node(2), up)
			h.w.retire(h.node(1), dead)
			return result
		}},
		"after the commit, before applying": {func(h *harness, send func() <-chan outcome) <-chan outcome {
			for _, n := range h.w.nodes {
				h.w.setLate(n, true)
			}
			result := send()
			h.w.retire(h.node(1), hanging)
			h.w.setLate(h.node(2), false)
			h.w.setLate(h.node(3), false)
			return result
		}},
		"after applying, before answering": {func(h *harness, send func() <-chan outcome) <-chan outcome {
			h.w.tell(h.node(1), lies{propose: hangAfter})
			h.w.setLate(h.node(2), true)
			h.w.setLate(h.node(3), true)
			result := send()
			h.w.retire(h.node(1), dead)
			h.w.setLate(h.node(2), false)
			h.w.setLate(h.node(3), false)
			return result
		}},
		"after answering": {func(h *harness, send func() <-chan outcome) <-chan outcome {
			h.w.setLate(h.node(2), true)
			h.w.setLate(h.node(3), true)
			result := send()
			h.w.retire(h.node(1), dead)
			h.w.setLate(h.node(2), false)
			h.w.setLate(h.node(3), false)
			return result
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				result := test.dies(h, func() <-chan outcome {
					result := h.background(addEvent(1, 5))
					synctest.Wait()
					return result
				})
				time.Sleep(election)
				h.w.elect(h.node(2))
				h.wantView(h.await(result, election+100*time.Millisecond), 5, 0)
				h.wantApplied(addEvent(1, 5), 1)
				h.must(book(1, 1), 50*time.Millisecond)
			})
		})
	}
}

// A batch is committed twice, since its leader hangs before it answers: the votes on both entries come, the results with those on
// the second one only.
func TestBatchIsCommittedTwice(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(1), lies{mute: true, keeps: true, propose: func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
			_, _ = next(ctx, entry)
			h.w.retire(h.node(1), hanging)
			h.w.change(func() { h.w.append(entry) })
			h.w.elect(h.node(2))
			<-ctx.Done()
			return dems.BatchReply{}, errGone
		}})
		for i := range 5 {
			h.wantView(h.must(addEvent(i, 5), firstDeadline+2*patience), 5, 0)
			h.wantApplied(addEvent(i, 5), 1)
		}
	})
}

// What a leader took and could not commit may be committed by the next, or be lost; either way it takes effect once.
func TestLeaderIsReplacedWithARequestOnItsWay(t *testing.T) {
	for name, keep := range map[string]bool{"kept": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.w.change(func() { h.w.keepPending = keep })
				h.w.set(h.node(2), hanging)
				h.w.set(h.node(3), dead)
				result := h.background(addEvent(1, 5))
				time.Sleep(time.Second)
				h.w.retire(h.node(1), dead)
				h.w.set(h.node(2), up)
				h.w.set(h.node(3), up)
				h.w.elect(h.node(3))
				h.wantView(h.await(result, 1200*time.Millisecond), 5, 0)
				h.wantApplied(addEvent(1, 5), 1)
			})
		})
	}
}

func TestNoLeader(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.suspendLeadership()
		var results []<-chan outcome
		for i := range 10 {
			results = append(results, h.background(addEvent(i, 5)))
		}
		for _, result := range results {
			h.awaitCode(result, dems.Unavailable)
		}
		// A command that was answered as not applied must not be applied when somebody leads again.
		h.w.elect(h.node(2))
		h.must(addEvent(100, 5), 50*time.Millisecond)
		for i := range 10 {
			h.wantApplied(addEvent(i, 5), 0)
		}
	})
}

// Leaders that refuse leave the request certainly unapplied, however often it was sent.
func TestNobodyTakesTheRequest(t *testing.T) {
	for name, kind := range map[string]dems.ReplicaErrorKind{
		"not leader": dems.NotLeader, "not applied": dems.NotApplied, "bad request": dems.BadRequest,
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.w.tell(h.node(1), lies{propose: func(context.Context, []byte, proposal) (dems.BatchReply, error) {
					return dems.BatchReply{}, &dems.ReplicaError{Kind: kind, Leader: "n1"}
				}})
				h.fails(addEvent(1, 5), dems.Unavailable, requestDeadline)
				h.w.tell(h.node(1), lies{})
				h.must(addEvent(2, 5), 50*time.Millisecond)
				h.wantApplied(addEvent(1, 5), 0)
			})
		})
	}
}

// A leader takes a batch and denies it. One of two waiters gives up, so that the batch is proposed again without its
// command; the results that come back are those of both. Whoever still waits is told its own.
func TestLeaderDeniesWhatItTook(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.suspendLeadership()
		time.Sleep(2 * pollInterval)
		ctx, cancel := context.WithCancel(context.Background())
		given := make(chan error, 1)
		go func() { _, err := h.core.Do(ctx, addEvent(1, 5)); given <- err }()
		kept := h.background(addEvent(2, 5))
		synctest.Wait()
		for _, n := range h.w.nodes {
			h.w.tell(n, lies{mute: true, keeps: true})
		}
		denied := make(chan struct{})
		h.w.tell(h.node(1), lies{mute: true, keeps: true, propose: func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
			select {
			case <-denied:
				return next(ctx, entry)
			default:
			}
			_, _ = next(ctx, entry)
			close(denied)
			return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotApplied}
		}})
		h.w.elect(h.node(1))
		<-denied
		synctest.Wait()
		cancel()
		if err := <-given; dems.CodeOf(err) != dems.Unavailable { // the leader said so
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * retryPause)
		h.w.tell(h.node(2), lies{})
		reply := h.await(kept, requestDeadline)
		equal(t, testEvent(2), reply.Result.Event.Key)
		h.wantApplied(addEvent(2, 5), 1)
	}, func(c *Config) { c.BatchesInFlight = 1 })
}

func TestOutcomeIsUnknown(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.set(h.node(2), dead)
		h.w.set(h.node(3), hanging)
		h.fails(addEvent(1, 5), dems.Indeterminate, requestDeadline)
		h.w.set(h.node(2), up) // now it is committed, and the next one behind it
		h.must(addEvent(2, 5), time.Second)
		h.wantApplied(addEvent(1, 5), 1)
	})
}

func TestKeyTellsTheOutcome(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.setLate(h.node(2), true)
		h.w.setLate(h.node(3), true)
		command := keyed(addEvent(1, 5), "k")
		h.fails(command, dems.Indeterminate, requestDeadline)
		h.w.setLate(h.node(2), false)
		reply := h.must(command, time.Second)
		if !reply.Result.Replayed {
			t.Errorf("got %+v, want the stored result", reply)
		}
	})
}

func TestNoMajority(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(2), lies{results: alterCapacity(1)})
		h.w.tell(h.node(3), lies{results: alterCapacity(2)})
		h.fails(addEvent(1, 5), dems.NoMajority, patience)
		h.w.tell(h.node(3), lies{})
		h.must(addEvent(2, 5), 0)
	})
}

// A batch is decided without the results of a node that voted and does not hand them out.
func TestNoMajorityWithoutResults(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(2), lies{results: alterCapacity(1), keeps: true})
		h.w.tell(h.node(3), lies{results: alterCapacity(2)})
		h.fails(addEvent(1, 5), dems.NoMajority, doubt+2*patience)
	})
}

// Two nodes that are wrong in different places leave a majority for every command.
func TestSplitVoteIsDecidedPerCommand(t *testing.T) {
	ready(t, 3, func(h *harness) {
		wrongAt := func(place int) func(int, *dems.Result) {
			return func(command int, result *dems.Result) {
				if command == place {
					result.Event.Capacity++
				}
			}
		}
		// The first request holds the only place in flight while the next three gather.
		old := h.w.suspendLeadership()
		results := []<-chan outcome{h.background(addEvent(1, 5))}
		synctest.Wait()
		for i := 2; i <= 4; i++ {
			results = append(results, h.background(addEvent(i, 5)))
			synctest.Wait()
		}
		h.w.tell(h.node(1), lies{results: wrongAt(0)})
		h.w.tell(h.node(2), lies{results: wrongAt(1)})
		h.w.elect(old)
		for i, result := range results {
			reply := h.await(result, time.Second)
			h.wantView(reply, 5, 0)
			if i == 0 || reply.Agreeing != 2 {
				continue
			}
			h.wantVotes(reply, 2, 3)
		}
	}, func(c *Config) { c.BatchesInFlight = 1 })
}
