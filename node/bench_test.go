package node_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/node"
)

// quiet is a cluster over UDP on the loopback with the timeouts that nodes have in earnest.
func quiet(b *testing.B) *cluster.Cluster {
	b.Helper()
	c := cluster.Start(b, cluster.Config{UDP: true, Change: func(config *node.Config) {
		standard := node.DefaultConfig()
		config.HeartbeatTimeout, config.LeaderLease = standard.HeartbeatTimeout, standard.LeaderLease
	}})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 1_000_000)))
	c.WaitEqual()
	return c
}

// votes counts the votes for each batch and tells when two nodes have voted.
type votes struct {
	mu     sync.Mutex
	counts map[uint64]int
	ready  map[uint64]chan struct{}
}

func (v *votes) at(number uint64) chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ready[number] == nil {
		v.ready[number] = make(chan struct{})
	}
	return v.ready[number]
}

func (v *votes) count(votes []dems.Vote) error {
	for _, vote := range votes {
		ready := v.at(vote.Batch)
		v.mu.Lock()
		if v.counts[vote.Batch]++; v.counts[vote.Batch] == 2 {
			close(ready)
		}
		v.mu.Unlock()
	}
	return nil
}

func watchVotes(b *testing.B, c *cluster.Cluster) *votes {
	v := &votes{counts: make(map[uint64]int), ready: make(map[uint64]chan struct{})}
	ctx, cancel := context.WithCancel(b.Context())
	var group sync.WaitGroup
	for _, id := range c.IDs() {
		group.Go(func() { _ = c.Replica(id).Votes(ctx, session, v.count) })
	}
	b.Cleanup(func() { cancel(); group.Wait() })
	return v
}

// BenchmarkIdleBooking measures one booking at a time in an idle cluster: until the leader replies, and until two nodes
// have voted.
func BenchmarkIdleBooking(b *testing.B) {
	c := quiet(b)
	leader := c.Replica(c.WaitLeader())
	v := watchVotes(b, c)
	var replied, voted []time.Duration
	for number := 2; b.Loop(); number++ {
		start := time.Now()
		if _, err := leader.Propose(b.Context(), batch(number, book("MTL", number%10000))); err != nil {
			b.Fatal(err)
		}
		replied = append(replied, time.Since(start))
		<-v.at(uint64(number))
		voted = append(voted, time.Since(start))
		time.Sleep(5 * time.Millisecond) // idle: nothing of the last one is left
	}
	for name, list := range map[string][]time.Duration{"reply": replied, "votes": voted} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(list[len(list)*99/100].Microseconds()), name+"-p99-µs")
	}
}

// BenchmarkBatches measures how many bookings a second eight proposals in flight give, until two nodes have voted.
func BenchmarkBatches(b *testing.B) {
	for _, size := range []int{1, 100, 512} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := quiet(b)
			leader := c.Replica(c.WaitLeader())
			v := watchVotes(b, c)
			var next atomic.Int64
			next.Store(1)
			var group sync.WaitGroup
			b.ResetTimer()
			for range dems.MaxBatchesInFlight {
				group.Go(func() {
					for {
						number := int(next.Add(1))
						if number > b.N+1 {
							return
						}
						if _, err := leader.Propose(b.Context(), batch(number, bookings(number, size)...)); err != nil {
							b.Error(err)
							return
						}
						<-v.at(uint64(number))
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}

// BenchmarkIdleProcessor measures how much of one core three idle nodes take.
func BenchmarkIdleProcessor(b *testing.B) {
	quiet(b)
	used := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	time.Sleep(time.Second)
	before, start := used(), time.Now()
	time.Sleep(5 * time.Second)
	b.ReportMetric(100*float64(used()-before)/float64(time.Since(start)), "%core")
}
