package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"dems"

	"github.com/hashicorp/raft"
)

// BenchmarkPropose is one round trip of an entry and as large results over the loopback.
func BenchmarkPropose(b *testing.B) { benchmarkPropose(b, Config{}) }

// BenchmarkProposeInADrill is BenchmarkPropose with a network that could be impaired, and is not: it shall cost nothing.
func BenchmarkProposeInADrill(b *testing.B) { benchmarkPropose(b, Config{Faulty: true}) }

func benchmarkPropose(b *testing.B, config Config) {
	for _, size := range []int{100, 10_000, 500_000} {
		for _, callers := range []int{1, 8} {
			b.Run(fmt.Sprintf("bytes=%d/callers=%d", size, callers), func(b *testing.B) {
				node := start(b, "n1", config)
				node.Serve(&stub{propose: echo})
				replica := start(b, "fe1", Config{}).Replica(node.Addr().String())
				entry := make([]byte, size)
				if _, err := replica.Propose(context.Background(), entry); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(2 * size))
				b.ReportAllocs()
				b.SetParallelism(callers)
				cpu := cpuTime(b)
				b.ResetTimer()
				if callers == 1 {
					for range b.N {
						if _, err := replica.Propose(context.Background(), entry); err != nil {
							b.Fatal(err)
						}
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							if _, err := replica.Propose(context.Background(), entry); err != nil {
								b.Error(err)
							}
						}
					})
				}
				b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// BenchmarkQuery is one round trip of a batch of reads with answers of 100 bytes.
func BenchmarkQuery(b *testing.B) {
	for _, count := range []int{1, 64} {
		b.Run(fmt.Sprintf("queries=%d", count), func(b *testing.B) {
			answer := dems.Answer{Version: 1, Result: make([]byte, 100)}
			_, replica := pair(b, &stub{query: func(_ context.Context, batch dems.QueryBatch) (dems.QueryReply, error) {
				reply := dems.QueryReply{Answers: make([]dems.Answer, len(batch.Queries))}
				for i := range reply.Answers {
					reply.Answers[i] = answer
				}
				return reply, nil
			}})
			batch := dems.QueryBatch{}
			for range count {
				batch.Queries = append(batch.Queries, scheduleQuery())
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := replica.Query(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVotes streams votes as fast as they are read.
func BenchmarkVotes(b *testing.B) {
	ended := errors.New("ended")
	_, replica := pair(b, &stub{votes: func(ctx context.Context, _ uint64, send func([]dems.Vote) error) error {
		for i := 0; i < b.N; i++ {
			for send(make([]dems.Vote, 1)) != nil && ctx.Err() == nil {
				runtime.Gosched() // the queue is full
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}})
	b.ReportAllocs()
	received := 0
	err := replica.Votes(context.Background(), 1, func(votes []dems.Vote) error {
		if received += len(votes); received >= b.N {
			return ended
		}
		return nil
	})
	if !errors.Is(err, ended) {
		b.Fatal(err)
	}
}

// BenchmarkRaftStream is one round trip of bytes over a stream of the Raft layer.
func BenchmarkRaftStream(b *testing.B) {
	for _, size := range []int{100, 10_000, 500_000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			n1, n2 := start(b, "n1", Config{}), start(b, "n2", Config{})
			n2.config.Resolve = func(dems.NodeID) (string, bool) { return n1.Addr().String(), true }
			listening, dialling := n1.RaftLayer(1, dems.Origin{}), n2.RaftLayer(1, dems.Origin{})
			go func() {
				stream, err := listening.Accept()
				if err == nil {
					io.Copy(stream, stream)
				}
			}()
			stream := dialRaft(b, dialling, "n1.1")
			sent, received := make([]byte, size), make([]byte, size)
			b.SetBytes(int64(2 * size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := stream.Write(sent); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(stream, received); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnect is a connection made, used once and closed.
func BenchmarkConnect(b *testing.B) {
	node, _ := pair(b, &stub{propose: echo})
	frontEnd := start(b, "fe1", Config{})
	for b.Loop() {
		replica := frontEnd.Replica(node.Addr().String())
		if _, err := replica.Propose(context.Background(), []byte("x")); err != nil {
			b.Fatal(err)
		}
		replica.Close()
	}
}

// BenchmarkIdle measures what ten connections cost while nothing happens: go test -bench Idle -benchtime 1x.
func BenchmarkIdle(b *testing.B) {
	node := start(b, "n1", Config{IdleTimeout: 2 * time.Second})
	node.Serve(&stub{propose: echo})
	frontEnd := start(b, "fe1", Config{IdleTimeout: 2 * time.Second})
	const connections, period = 10, 10 * time.Second
	for range connections {
		if _, err := frontEnd.Replica(node.Addr().String()).Propose(context.Background(), []byte("x")); err != nil {
			b.Fatal(err)
		}
	}
	var spent time.Duration
	for range b.N {
		before := cpuTime(b)
		<-time.After(period)
		spent += cpuTime(b) - before
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N)/period.Seconds()/connections, "µs-cpu/s/connection")
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func dialRaft(t testing.TB, layer raft.StreamLayer, node raft.ServerAddress) net.Conn {
	t.Helper()
	stream, err := layer.Dial(node, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// scheduleQuery asks for a customer's schedule.
func scheduleQuery() dems.Query {
	customer, _ := dems.ParseUserID("MTLC0001")
	return dems.Query{Kind: dems.OperationQuery, Command: dems.Command{
		Op: dems.GetBookingSchedule, Time: time.UnixMilli(1_700_000_000_000).UTC(), By: customer, Customer: customer,
	}}
}
