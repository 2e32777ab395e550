package frontend

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"dems"
)

// instant is a cluster that takes no time: three nodes that give every command the same result, so that what is measured
// is the front end. Proposals are decoded, as nodes have to; nothing is applied.
type instant struct {
	Replica // what the benchmarks do not call
	id      dems.NodeID
	others  *instantVotes
	result  []byte
}

// instantVotes hands votes over to whoever listens.
type instantVotes struct {
	mu        sync.Mutex
	index     uint64
	listeners map[dems.NodeID]func([]dems.Vote) error
}

func (r *instant) Propose(_ context.Context, data []byte) (dems.BatchReply, error) {
	entry, err := dems.DecodeEntry(data)
	if err != nil {
		return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.BadRequest, Err: err}
	}
	v := r.others
	v.mu.Lock()
	defer v.mu.Unlock()
	v.index++
	if entry.Kind != dems.BatchEntry {
		return dems.BatchReply{}, nil
	}
	results := make([]dems.Result, len(entry.Batch.Commands))
	for i := range results {
		results[i] = dems.Result{Outcome: dems.Booked, Sequence: v.index, Booking: testEvent(1), Customer: testCustomer(1)}
	}
	reply := dems.BatchReply{Results: dems.AppendResults(nil, results)}
	reply.Vote = dems.Vote{
		Index: v.index, Session: entry.Batch.Session, Batch: entry.Batch.Number, Results: dems.DigestOf(reply.Results),
	}
	for id, receive := range v.listeners {
		reply.Vote.Node = id
		if err := receive([]dems.Vote{reply.Vote}); err != nil {
			return dems.BatchReply{}, err
		}
	}
	reply.Vote.Node = r.id
	return reply, nil
}

func (r *instant) Query(_ context.Context, batch dems.QueryBatch) (dems.QueryReply, error) {
	reply := dems.QueryReply{Node: r.id, Applied: batch.MinIndex, Answers: make([]dems.Answer, len(batch.Queries))}
	for i := range reply.Answers {
		reply.Answers[i].Result = r.result
	}
	return reply, nil
}

func (r *instant) Votes(ctx context.Context, _ uint64, receive func([]dems.Vote) error) error {
	r.others.mu.Lock()
	r.others.listeners[r.id] = receive
	r.others.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (r *instant) Results(context.Context, uint64, uint64) (dems.BatchReply, error) {
	return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotReady}
}

func (r *instant) Status(context.Context) (dems.NodeStatus, error) {
	status := dems.NodeStatus{ID: r.id, Ready: true, Leader: "n1", Term: 1, Configuration: 1}
	for i := range 3 {
		id := fmt.Sprint("n", i+1)
		status.Members = append(status.Members, dems.Member{ID: dems.NodeID(id), Address: id, Suffrage: dems.Voter})
	}
	return status, nil
}

func (r *instant) CityLog(context.Context, dems.City, uint64, int) (dems.CityLogPage, error) {
	return dems.CityLogPage{}, nil
}

func (r *instant) Transfer(context.Context, dems.NodeID) error { return nil }

// startInstant runs a front end on an instant cluster until the benchmark ends.
func startInstant(b *testing.B) *Core {
	votes := &instantVotes{listeners: map[dems.NodeID]func([]dems.Vote) error{}}
	result := dems.AppendResults(nil, []dems.Result{{Event: dems.EventView{Key: testEvent(1), Capacity: 5}}})
	core, err := NewCore(Config{ID: "fe1", Nodes: []string{"n1", "n2", "n3"}, Logger: slog.New(slog.DiscardHandler), Dial: func(address string) Replica {
		return &instant{id: dems.NodeID(address), others: votes, result: result}
	}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- core.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	for listening := 0; listening < 3; time.Sleep(time.Millisecond) {
		votes.mu.Lock()
		listening = len(votes.listeners)
		votes.mu.Unlock()
	}
	return core
}

// inParallel shares the iterations of a benchmark among so many goroutines.
func inParallel(b *testing.B, goroutines int, request func(ctx context.Context) error) {
	b.ReportAllocs()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	var group sync.WaitGroup
	b.ResetTimer()
	for i := range goroutines {
		group.Go(func() {
			for range (b.N + i) / goroutines {
				if err := request(ctx); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkDo(b *testing.B) {
	for _, goroutines := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			core := startInstant(b)
			inParallel(b, goroutines, func(ctx context.Context) error {
				_, err := core.Do(ctx, book(1, 1))
				return err
			})
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, goroutines := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			core := startInstant(b)
			inParallel(b, goroutines, func(ctx context.Context) error {
				_, err := core.Read(ctx, getEvent(1))
				return err
			})
		})
	}
}

// BenchmarkVoter counts the votes of one batch: the leader's results, then the others' digests.
func BenchmarkVoter(b *testing.B) {
	for _, voters := range []int{3, 5} {
		b.Run(fmt.Sprint(voters), func(b *testing.B) {
			v, p := electionOf(voters), &proposer{}
			results := dems.AppendResults(nil, make([]dems.Result, 64))
			reply := dems.BatchReply{Results: results, Vote: dems.Vote{Node: "n1", Results: dems.DigestOf(results)}}
			votes := make([]dems.Vote, voters)
			for i, n := range v.voters {
				votes[i] = dems.Vote{Node: n.name(), Results: reply.Vote.Results}
			}
			b.ReportAllocs()
			for b.Loop() {
				f := newFlight(1, 1, nil)
				p.castReply(f, v.voters[0], &reply)
				for i := 1; !f.tally(v).Won; i++ {
					p.cast(f, v.voters[i], &votes[i], nil)
				}
			}
		})
	}
}
