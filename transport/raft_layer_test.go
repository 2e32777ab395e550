package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/internal/faultnet"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// raftPair returns the Raft layers of n1 and n2 in a lab.
func raftPair(lab *lab) (n1, n2 raft.StreamLayer) {
	return lab.start("n1", Config{}).RaftLayer(1, dems.Origin{}), lab.start("n2", Config{}).RaftLayer(1, dems.Origin{})
}

// connected returns the two ends of a stream that n2 dialled and on which it has written one byte.
func connected(t *testing.T, n1, n2 raft.StreamLayer) (accepted, dialled net.Conn) {
	t.Helper()
	dialled = dialRaft(t, n2, "n1.1")
	if _, err := dialled.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	accepted, err := n1.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(accepted, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return accepted, dialled
}

func TestRaftStream(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1, n2 := raftPair(lab)
		if n1.Addr().String() != "n1" || n2.Addr().String() != "n2" {
			t.Errorf("addresses %v, %v: they must be the nodes' IDs", n1.Addr(), n2.Addr())
		}
		accepted, dialled := connected(t, n1, n2)
		if accepted.RemoteAddr().String() != "n2" || dialled.RemoteAddr().String() != "n1" ||
			dialled.LocalAddr().String() != "n2" || n1.Addr().Network() == "" {
			t.Errorf("addresses %v, %v, %v", accepted.RemoteAddr(), dialled.RemoteAddr(), dialled.LocalAddr())
		}
		go func() { io.Copy(accepted, accepted) }()
		for _, size := range []int{1, 1000, 1 << 20} {
			go dialled.Write(make([]byte, size))
			if _, err := io.ReadFull(dialled, make([]byte, size)); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	})
}

func TestRaftStreamsShareAConnection(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1, n2 := raftPair(lab)
		first, _ := connected(t, n1, n2)
		second, _ := connected(t, n1, n2)
		if first.(*raftStream).connection != second.(*raftStream).connection {
			t.Error("two connections")
		}
	})
}

func TestRaftStreamDeadlines(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1, n2 := raftPair(lab)
		accepted, dialled := connected(t, n1, n2)
		begin := time.Now()
		dialled.SetDeadline(begin.Add(3 * time.Second))
		_, err := dialled.Read(make([]byte, 1))
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() || time.Since(begin) != 3*time.Second {
			t.Errorf("read: %v after %v", err, time.Since(begin))
		}
		dialled.SetDeadline(time.Time{})
		accepted.SetWriteDeadline(time.Now().Add(time.Second)) // nobody reads: the window fills
		_, err = accepted.Write(make([]byte, 64<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestAPeerReadsWhatWasWrittenAndThenTheEnd(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1, n2 := raftPair(lab)
		accepted, dialled := connected(t, n1, n2)
		dialled.Write([]byte("last words"))
		dialled.Close()
		dialled.Close()
		if data, err := io.ReadAll(accepted); err != nil || string(data) != "last words" {
			t.Errorf("got %q, %v", data, err)
		}
		if _, err := dialled.Write([]byte("x")); err == nil {
			t.Error("a closed stream was written")
		}
		if _, err := dialled.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed stream was read: %v", err)
		}
		if _, err := accepted.Write(make([]byte, 1<<20)); err == nil {
			t.Error("the peer wrote to a closed stream")
		}
	})
}

func TestCloseEndsAReadAndAWriteUnderWay(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1, n2 := raftPair(lab)
		_, dialled := connected(t, n1, n2)
		ended := make(chan error, 2)
		go func() {
			_, err := dialled.Read(make([]byte, 1))
			ended <- err
		}()
		go func() {
			_, err := dialled.Write(make([]byte, 64<<20))
			ended <- err
		}()
		synctest.Wait()
		dialled.Close()
		for range 2 {
			if err := <-ended; err == nil {
				t.Error("it did not fail")
			}
		}
	})
}

func TestRaftDialFails(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1, n2 := raftPair(lab)
		for _, address := range []raft.ServerAddress{"", "127.0.0.1:7000", "N1"} {
			if _, err := n2.Dial(address, time.Second); err == nil {
				t.Errorf("%q: no error", address)
			}
		}
		begin := time.Now()
		if _, err := n2.Dial("n3.1", 300*time.Millisecond); err == nil || time.Since(begin) != 300*time.Millisecond {
			t.Errorf("an absent node: %v after %v", err, time.Since(begin))
		}
		if _, err := n2.Dial("n3.1", 0); err == nil || time.Since(begin) != 2*time.Second {
			t.Errorf("an absent node without a timeout: %v after %v", err, time.Since(begin))
		}
		n2.Close()
		n2.Close()
		if _, err := n2.Dial("n1.1", time.Second); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed layer: %v", err)
		}
		if _, err := n2.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept of a closed layer: %v", err)
		}
		n1.Close()
	})
}

func TestClosingTheLayerEndsItsStreams(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		endpoint := lab.start("n1", Config{})
		n1, n2 := endpoint.RaftLayer(1, dems.Origin{}), lab.start("n2", Config{}).RaftLayer(1, dems.Origin{})
		accepted, dialled := connected(t, n1, n2)
		n1.Close()
		if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("its own stream: %v", err)
		}
		if _, err := dialled.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the peer's stream: %v", err)
		}
		// Without a layer streams are refused, and with a new one they are taken again, on the same connection.
		refused := dialRaft(t, n2, "n1.1")
		refused.Write([]byte("x"))
		if _, err := refused.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("nobody listens: %v", err)
		}
		again := endpoint.RaftLayer(1, dems.Origin{})
		_, dialledAgain := connected(t, again, n2)
		if dialledAgain.(*raftStream).connection != dialled.(*raftStream).connection {
			t.Error("another connection")
		}
		// A layer that follows ends the one before.
		endpoint.RaftLayer(1, dems.Origin{})
		if _, err := again.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the layer before: %v", err)
		}
		endpoint.Close()
		if _, err := endpoint.RaftLayer(1, dems.Origin{}).Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a layer of a closed endpoint: %v", err)
		}
	})
}

func TestRaftDialsAgain(t *testing.T) {
	for name, end := range map[string]func(*Endpoint){"closed": func(e *Endpoint) { e.Close() }, "killed": (*Endpoint).abort} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, lab *lab) {
				config := Config{StatelessResetKeyFile: t.TempDir() + "/reset.key"}
				node := lab.start("n1", config)
				n2 := lab.start("n2", Config{}).RaftLayer(1, dems.Origin{})
				_, old := connected(t, node.RaftLayer(1, dems.Origin{}), n2)
				end(node)
				n1 := lab.start("n1", config).RaftLayer(1, dems.Origin{})
				// What Raft does next is to send something on the stream that it has.
				old.Write(make([]byte, 100))
				if _, err := old.Read(make([]byte, 1)); err == nil {
					t.Error("the old stream lives")
				}
				begin := time.Now()
				connected(t, n1, n2)
				if took := time.Since(begin); took != 0 {
					t.Errorf("the new stream took %v", took)
				}
			})
		})
	}
}

// machine is the least that Raft can run: it counts entries.
type machine struct{ applied atomic.Int64 }

func (m *machine) Apply(*raft.Log) any                  { return m.applied.Add(1) }
func (m *machine) Snapshot() (raft.FSMSnapshot, error)  { return nil, errors.New("no snapshots") }
func (m *machine) Restore(snapshot io.ReadCloser) error { return errors.New("no snapshots") }

// wait waits in virtual time until that many entries are applied, and tells how long it took.
func (m *machine) wait(t *testing.T, count int64) time.Duration {
	t.Helper()
	begin := time.Now()
	for m.applied.Load() < count {
		if time.Since(begin) > time.Minute {
			t.Fatalf("%d of %d entries after a minute", m.applied.Load(), count)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begin)
}

// raftCluster is real Raft on n1, n2 and n3.
type raftCluster struct {
	t        *testing.T
	nodes    map[string]*raft.Raft
	machines map[string]*machine
}

func startRaft(t *testing.T, lab *lab) *raftCluster {
	t.Helper()
	cluster := &raftCluster{t: t, nodes: make(map[string]*raft.Raft), machines: make(map[string]*machine)}
	servers := raft.Configuration{}
	for _, id := range []string{"n1", "n2", "n3"} {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id + ".1")})
	}
	for _, server := range servers.Servers {
		id := string(server.ID)
		logger := hclog.NewNullLogger()
		transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: lab.start(id, Config{}).RaftLayer(1, dems.Origin{}), MaxPool: 3, Timeout: 5 * time.Second, Logger: logger,
		})
		store, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
		config := raft.DefaultConfig()
		config.LocalID, config.Logger = server.ID, logger
		config.HeartbeatTimeout, config.ElectionTimeout = 300*time.Millisecond, 300*time.Millisecond
		config.LeaderLeaseTimeout = 200 * time.Millisecond
		if err := raft.BootstrapCluster(config, store, store, snapshots, transport, servers); err != nil {
			t.Fatal(err)
		}
		machine := new(machine)
		node, err := raft.NewRaft(config, machine, store, store, snapshots, transport)
		if err != nil {
			t.Fatal(err)
		}
		cluster.nodes[id], cluster.machines[id] = node, machine
		t.Cleanup(func() {
			if err := node.Shutdown().Error(); err != nil {
				t.Error(err)
			}
			transport.Close()
		})
	}
	return cluster
}

// leader waits for a leader other than one node.
func (c *raftCluster) leader(without string) string {
	c.t.Helper()
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(time.Millisecond) {
		for id, node := range c.nodes {
			if id != without && node.State() == raft.Leader {
				return id
			}
		}
	}
	c.t.Fatal("no leader after a minute")
	return ""
}

// propose has entries applied by a leader other than one node, however often it takes.
func (c *raftCluster) propose(count int, without string) {
	c.t.Helper()
	for done := 0; done < count; {
		if err := c.nodes[c.leader(without)].Apply(fmt.Append(nil, done), time.Second).Error(); err == nil {
			done++
		}
	}
}

// TestRaftCluster runs Raft while packets are lost, and while the leader is cut off.
func TestRaftCluster(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		lab.network.SetAll(faultnet.Link{Loss: 0.05, Delay: time.Millisecond, Jitter: time.Millisecond})
		cluster := startRaft(t, lab)
		cluster.propose(100, "")
		for id, machine := range cluster.machines {
			t.Log(id, "caught up after", machine.wait(t, 100))
		}
		first := cluster.leader("")
		rest := []string{}
		for id := range cluster.nodes {
			if id != first {
				rest = append(rest, id)
			}
		}
		lab.network.Partition([]string{first}, rest)
		begin := time.Now()
		cluster.propose(1, first)
		t.Log("without the leader an entry took", time.Since(begin))
		cluster.propose(99, first)
		lab.network.Heal()
		t.Log("the leader of before caught up after", cluster.machines[first].wait(t, 200))
	})
}

func TestFrontEndsMaySpeakNoRaft(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1 := lab.start("n1", Config{}).RaftLayer(1, dems.Origin{})
		frontEnd := lab.start("fe1", Config{}).RaftLayer(1, dems.Origin{})
		stream, err := frontEnd.Dial("n1.1", time.Second)
		if err == nil {
			stream.Write(make([]byte, 10))
			_, err = stream.Read(make([]byte, 1))
		}
		mentions(t, err, "tls: bad certificate")
		go func() {
			time.Sleep(time.Second)
			n1.Close()
		}()
		if stream, err := n1.Accept(); err == nil {
			t.Errorf("a stream of %v came in", stream.RemoteAddr())
		}
	})
}

func TestResolveIsAskedForEveryConnection(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		var address atomic.Value
		address.Store("n3")
		frontEnd := lab.start("fe1", Config{})
		frontEnd.config.Resolve = func(dems.NodeID) (string, bool) { return address.Load().(string), true }
		lab.start("n1", Config{}).Serve(&stub{propose: echo})
		lab.start("n3", Config{}).Serve(&stub{propose: echo})
		peer := frontEnd.Peer("n1")
		_, err := peer.Propose(t.Context(), []byte("x"))
		kind(t, err, dems.NotApplied) // n3 is not n1
		address.Store("n1")
		if _, err := peer.Propose(t.Context(), []byte("x")); err != nil {
			t.Error(err)
		}
	})
}
