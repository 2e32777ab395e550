package transport

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/transport/faulty"

	"github.com/quic-go/quic-go"
)

// allNodes are those of a lab.
var allNodes = []dems.NodeID{"n1", "n2", "n3"}

// afterGrace waits until a fault that was injected has begun.
func afterGrace() {
	time.Sleep(faulty.Grace)
	synctest.Wait()
}

func TestANodeIsCutOffFromWhomItIsSaid(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1 := lab.start("n1", Config{Faulty: true, Nodes: allNodes})
		n1.Serve(&stub{propose: echo})
		callers := map[string]*Replica{}
		for _, name := range []string{"n2", "n3", "fe1"} {
			callers[name] = lab.start(name, Config{}).Peer("n1")
		}
		try := func(name string) error {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := callers[name].Propose(ctx, []byte("x"))
			return err
		}
		for _, test := range []struct {
			peers     []string
			direction dems.Direction
			cut       string
		}{
			{[]string{"n2", "n3"}, dems.BothWays, "n2 n3"},
			{[]string{dems.FrontEnds}, dems.BothWays, "fe1"},
			{nil, dems.Incoming, "n2 n3 fe1"},
			{[]string{"n3"}, dems.Outgoing, "n3"},
		} {
			for name := range callers {
				if err := try(name); err != nil {
					t.Errorf("%s, before: %v", name, err)
				}
			}
			fault := dems.Fault{Kind: dems.Partition, Peers: test.peers, Direction: test.direction, Lasts: 5 * time.Second}
			if err := n1.Impair(t.Context(), fault); err != nil {
				t.Fatal(err)
			}
			afterGrace()
			for name := range callers {
				if err := try(name); (err != nil) != strings.Contains(test.cut, name) {
					t.Errorf("%s cut off by %+v: %v", name, fault, err)
				}
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
	})
}

// TestAConnectionOutlivesAShortPartition: QUIC sends again what was lost, as it does after a real one.
func TestAConnectionOutlivesAShortPartition(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1 := lab.start("n1", Config{Faulty: true, Nodes: allNodes})
		n1.Serve(&stub{propose: echo})
		replica := lab.start("fe1", Config{}).Peer("n1")
		if _, err := replica.Propose(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		first := replica.connector.current
		if err := n1.Impair(t.Context(), dems.Fault{Kind: dems.Partition, Lasts: time.Second}); err != nil {
			t.Fatal(err)
		}
		afterGrace()
		begin := time.Now()
		_, err := replica.Propose(t.Context(), []byte("y"))
		if took := time.Since(begin); err != nil || took < time.Second || took > 1500*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		if replica.connector.current != first {
			t.Error("the connection was lost")
		}
	})
}

func TestANetworkIsSlow(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1 := lab.start("n1", Config{Faulty: true, Nodes: allNodes})
		n1.Serve(&stub{propose: echo})
		replica, peer := lab.start("fe1", Config{}).Peer("n1"), lab.start("n2", Config{}).Peer("n1")
		roundTrip := func(replica *Replica) time.Duration {
			begin := time.Now()
			if _, err := replica.Propose(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		roundTrip(replica)
		roundTrip(peer)
		const delay = 40 * time.Millisecond
		if err := n1.Impair(t.Context(), dems.Fault{Kind: dems.Latency, Delay: delay, Peers: []string{dems.FrontEnds}}); err != nil {
			t.Fatal(err)
		}
		afterGrace()
		if slow, quick := roundTrip(replica), roundTrip(peer); slow != 2*delay || quick != 0 {
			t.Errorf("round trips of %v and %v, want %v and 0", slow, quick, 2*delay)
		}
		n1.Heal()
		if quick := roundTrip(replica); quick != 0 {
			t.Errorf("healed, and a round trip takes %v", quick)
		}
	})
}

// TestWhoInjectsAFaultGetsTheAnswer: although the fault cuts the node off from it.
func TestWhoInjectsAFaultGetsTheAnswer(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1 := lab.start("n1", Config{Faulty: true, Nodes: allNodes})
		n1.Serve(&stub{inject: n1.Impair})
		replica := lab.start("fe1", Config{}).Peer("n1")
		fault := dems.Fault{Kind: dems.Partition, Lasts: time.Minute}
		if err := replica.Inject(t.Context(), fault); err != nil {
			t.Error(err)
		}
		afterGrace()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := replica.Inject(ctx, fault); err == nil {
			t.Error("the node is not cut off")
		}
	})
}

func TestFaultsOfTheNetworkThatCannotBe(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		partition := dems.Fault{Kind: dems.Partition, Lasts: time.Second}
		sound := lab.start("n1", Config{Nodes: allNodes})
		if err := sound.Impair(t.Context(), partition); err == nil || !strings.Contains(err.Error(), "not started for drills") {
			t.Errorf("a server that is in no drill: %v", err)
		}
		sound.Heal()
		n2 := lab.start("n2", Config{Faulty: true, Nodes: allNodes})
		for peer, want := range map[string]string{"n2": "the node itself", "n4": "there is no node n4", "fe1": "there is no node fe1"} {
			partition.Peers = []string{"n1", peer}
			if err := n2.Impair(t.Context(), partition); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", peer, err, want)
			}
		}
		n2.Close()
		partition.Peers = nil
		if err := n2.Impair(t.Context(), partition); err == nil {
			t.Error("a closed endpoint took a fault")
		}
	})
}

// TestAFaultySocketIsAsFast: quic-go finds in it what it is fast by. A real cluster then works over it.
func TestAFaultySocketIsAsFast(t *testing.T) {
	node := start(t, "n1", Config{Faulty: true, Nodes: allNodes, Resolve: func(dems.NodeID) (string, bool) { return "127.0.0.1:9", true }})
	if _, ok := node.transport.Conn.(quic.OOBCapablePacketConn); !ok && runtime.GOOS == "linux" {
		t.Errorf("%T is slower than a plain socket", node.transport.Conn)
	}
	node.Serve(&stub{propose: echo})
	replica := start(t, "fe1", Config{}).Replica(node.Addr().String())
	entry := make([]byte, 500_000)
	for range 20 {
		if reply, err := replica.Propose(t.Context(), entry); err != nil || len(reply.Results) != len(entry) {
			t.Fatal(err)
		}
	}
	if err := node.Impair(t.Context(), dems.Fault{Kind: dems.Latency, Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	for range 20 { // some before it begins, some after: nothing is lost, whatever overtakes what
		if reply, err := replica.Propose(t.Context(), entry); err != nil || len(reply.Results) != len(entry) {
			t.Fatal(err)
		}
	}
	if err := node.Impair(t.Context(), dems.Fault{Kind: dems.Partition, Lasts: dems.MaxFaultLasts}); err != nil {
		t.Fatal(err)
	}
	err := error(nil)
	for err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err = replica.Propose(ctx, []byte("x"))
		cancel()
	}
	kind(t, err, dems.UnknownOutcome)
}
