package faulty

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/internal/faultnet"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is a network in memory, in virtual time, on which n1 has a faulty network. n2 and n3 are nodes, fe1 is none.
type lab struct {
	t       *testing.T
	sockets map[string]net.PacketConn // n1's is the one with faults
	network *Network

	mu        sync.Mutex
	addresses map[dems.NodeID][]net.Addr // what lookups find; none: they fail
	lookups   int
}

func inLab(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		wires := faultnet.New(1)
		defer wires.Close()
		l := &lab{t: t, sockets: make(map[string]net.PacketConn), addresses: make(map[dems.NodeID][]net.Addr)}
		for _, name := range []string{"n1", "n2", "n3", "fe1", "elsewhere"} {
			socket, err := wires.Listen(name)
			if err != nil {
				t.Fatal(err)
			}
			l.sockets[name] = socket
		}
		for _, node := range []dems.NodeID{"n2", "n3"} {
			l.addresses[node] = []net.Addr{faultnet.Addr(node)}
		}
		l.network = New(l.sockets["n1"], []dems.NodeID{"n1", "n2", "n3"}, l.lookup, slog.New(slog.DiscardHandler))
		defer l.network.Close()
		l.sockets["n1"] = l.network.Conn()
		test(t, l)
	})
}

func (l *lab) lookup(_ context.Context, node dems.NodeID) ([]net.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookups++
	if len(l.addresses[node]) == 0 {
		return nil, errors.New("no such host")
	}
	return l.addresses[node], nil
}

// inject injects a fault and waits until it has begun.
func (l *lab) inject(fault dems.Fault) {
	l.t.Helper()
	if err := l.network.Inject(l.t.Context(), fault); err != nil {
		l.t.Fatal(err)
	}
	time.Sleep(Grace)
	synctest.Wait()
}

func (l *lab) send(from, to, text string) {
	l.t.Helper()
	if size, err := l.sockets[from].WriteTo([]byte(text), faultnet.Addr(to)); size != len(text) || err != nil {
		l.t.Fatalf("%d, %v", size, err)
	}
}

// receive returns what arrives within a time, and after how long; "" is nothing.
func (l *lab) receive(at string, within time.Duration) (text string, after time.Duration) {
	l.t.Helper()
	begin := time.Now()
	_ = l.sockets[at].SetReadDeadline(begin.Add(within))
	data := make([]byte, 64)
	size, from, err := l.sockets[at].ReadFrom(data)
	if err == nil {
		return from.String() + ": " + string(data[:size]), time.Since(begin)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != within {
		l.t.Errorf("reading ended after %v: %v", time.Since(begin), err)
	}
	return "", within
}

// passes tells which datagrams between n1 and others arrive, as in ">n2 <fe1", where > is from n1.
func (l *lab) passes() string {
	l.t.Helper()
	var arrived []string
	for _, name := range []string{"n2", "n3", "fe1", "elsewhere"} {
		l.send("n1", name, "ping")
		if text, _ := l.receive(name, time.Millisecond); text == "n1: ping" {
			arrived = append(arrived, ">"+name)
		}
		l.send(name, "n1", "pong")
		if text, _ := l.receive("n1", time.Millisecond); text == name+": pong" {
			arrived = append(arrived, "<"+name)
		}
	}
	return strings.Join(arrived, " ")
}

const everything = ">n2 <n2 >n3 <n3 >fe1 <fe1 >elsewhere <elsewhere"

func TestPartitionsCutWhatTheyName(t *testing.T) {
	for _, test := range []struct {
		direction dems.Direction
		peers     []string
		want      string // what still arrives
	}{
		{dems.BothWays, nil, ""},
		{dems.Incoming, nil, ">n2 >n3 >fe1 >elsewhere"},
		{dems.Outgoing, nil, "<n2 <n3 <fe1 <elsewhere"},
		{dems.BothWays, []string{"n2"}, ">n3 <n3 >fe1 <fe1 >elsewhere <elsewhere"},
		{dems.Incoming, []string{"n2", "n3"}, ">n2 >n3 >fe1 <fe1 >elsewhere <elsewhere"},
		{dems.Outgoing, []string{"n3"}, ">n2 <n2 <n3 >fe1 <fe1 >elsewhere <elsewhere"},
		{dems.BothWays, []string{dems.FrontEnds}, ">n2 <n2 >n3 <n3"},
		{dems.Incoming, []string{dems.FrontEnds, "n2"}, ">n2 >n3 <n3 >fe1 >elsewhere"},
	} {
		inLab(t, func(t *testing.T, l *lab) {
			if before := l.passes(); before != everything {
				t.Errorf("before: %s", before)
			}
			l.inject(dems.Fault{Kind: dems.Partition, Lasts: time.Second, Peers: test.peers, Direction: test.direction})
			if got := l.passes(); got != test.want {
				t.Errorf("%s %v: %q passes, want %q", test.direction, test.peers, got, test.want)
			}
			l.network.Heal()
			if after := l.passes(); after != everything {
				t.Errorf("after: %s", after)
			}
		})
	}
}

// TestFaultsBeginAfterTheGraceAndEndByThemselves: to the nanosecond.
func TestFaultsBeginAfterTheGraceAndEndByThemselves(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		const lasts = 2500 * time.Millisecond
		begin := time.Now()
		if err := l.network.Inject(t.Context(), dems.Fault{Kind: dems.Partition, Lasts: lasts}); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			at     time.Duration
			passes bool
		}{
			{0, true}, {Grace - 1, true}, {Grace + 1, false}, {time.Second, false}, {Grace + lasts - 1, false}, {Grace + lasts + 1, true},
		} {
			time.Sleep(time.Until(begin.Add(test.at)))
			synctest.Wait()
			l.send("n1", "n2", "x")
			synctest.Wait()
			if text, _ := l.receive("n2", 1); (text != "") != test.passes {
				t.Errorf("after %v it passes: %t, want %t", test.at, !test.passes, test.passes)
			}
		}
		if l.network.rules.Load() != nil || len(l.network.faults) != 0 {
			t.Error("something is left of a fault that has ended")
		}
	})
}

func TestHealingEndsFaultsBeforeTheyBegin(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		for _, fault := range []dems.Fault{{Kind: dems.Partition, Lasts: time.Hour / 10}, {Kind: dems.Latency, Delay: time.Second}} {
			if err := l.network.Inject(t.Context(), fault); err != nil {
				t.Fatal(err)
			}
		}
		l.network.Heal()
		time.Sleep(2 * Grace)
		synctest.Wait()
		if got := l.passes(); got != everything {
			t.Errorf("passes: %s", got)
		}
		l.network.Heal() // once more is no matter
	})
}

func TestOneFaultOfAKind(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.inject(dems.Fault{Kind: dems.Partition, Lasts: time.Second, Peers: []string{"n2"}})
		l.inject(dems.Fault{Kind: dems.Latency, Delay: 20 * time.Millisecond, Peers: []string{"n2", "n3"}})
		if got, want := l.passes(), ">fe1 <fe1 >elsewhere <elsewhere"; got != want {
			t.Errorf("passes at once: %q, want %q", got, want)
		}
		l.inject(dems.Fault{Kind: dems.Partition, Lasts: time.Minute, Peers: []string{dems.FrontEnds}})
		time.Sleep(time.Second) // the first one would have ended, and must not end another one
		synctest.Wait()
		if r := l.network.rules.Load(); r == nil || len(r.faults) != 2 {
			t.Fatalf("in force: %+v", r)
		}
		drain(l, "n2", "n3", "n1")
		l.send("n1", "fe1", "cut")
		l.send("n1", "n2", "late")
		if text, after := l.receive("n2", time.Second); text != "n1: late" || after != 20*time.Millisecond {
			t.Errorf("%q after %v", text, after)
		}
		if text, _ := l.receive("fe1", time.Second); text != "" {
			t.Errorf("%q got through", text)
		}
	})
}

// drain reads what is still there.
func drain(l *lab, names ...string) {
	for _, name := range names {
		for text, _ := l.receive(name, time.Second); text != ""; text, _ = l.receive(name, time.Second) {
			continue
		}
	}
}

// TestPeersAreFollowed: a node may get another address while a fault lasts, and one that has none at present keeps what it had.
func TestPeersAreFollowed(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		move := func(addresses ...net.Addr) {
			l.mu.Lock()
			l.addresses["n2"] = addresses
			l.mu.Unlock()
			time.Sleep(lookupInterval)
			synctest.Wait()
		}
		l.inject(dems.Fault{Kind: dems.Partition, Lasts: time.Minute, Peers: []string{"n2"}})
		for _, test := range []struct {
			addresses []net.Addr
			want      string
		}{
			{[]net.Addr{faultnet.Addr("n2")}, ">n3 <n3 >fe1 <fe1 >elsewhere <elsewhere"},
			{[]net.Addr{faultnet.Addr("elsewhere")}, ">n2 <n2 >n3 <n3 >fe1 <fe1"},
			{nil, ">n2 <n2 >n3 <n3 >fe1 <fe1"},
			{[]net.Addr{faultnet.Addr("n2"), faultnet.Addr("elsewhere")}, ">n3 <n3 >fe1 <fe1"},
		} {
			move(test.addresses...)
			if got := l.passes(); got != test.want {
				t.Errorf("n2 at %v: %q passes, want %q", test.addresses, got, test.want)
			}
		}
		l.network.Heal()
		synctest.Wait()
		before := l.lookups
		time.Sleep(10 * lookupInterval)
		if l.lookups != before {
			t.Error("addresses are looked up although there is no fault")
		}
	})
}

func TestLatencyIsExact(t *testing.T) {
	for _, direction := range []dems.Direction{dems.BothWays, dems.Incoming, dems.Outgoing} {
		inLab(t, func(t *testing.T, l *lab) {
			const delay = 70 * time.Millisecond
			l.inject(dems.Fault{Kind: dems.Latency, Delay: delay, Peers: []string{"n2"}, Direction: direction})
			want := map[string]time.Duration{"n1": delay, "n2": delay, "n3": 0}
			if direction == dems.Incoming {
				want["n2"] = 0
			}
			if direction == dems.Outgoing {
				want["n1"] = 0
			}
			for round := range 3 {
				for _, pair := range [][2]string{{"n1", "n2"}, {"n2", "n1"}, {"n1", "n3"}} {
					text := fmt.Sprint("round ", round)
					l.send(pair[0], pair[1], text)
					if got, after := l.receive(pair[1], time.Second); got != pair[0]+": "+text || after != want[pair[1]] {
						t.Errorf("%s: from %s to %s: %q after %v, want %v", direction, pair[0], pair[1], got, after, want[pair[1]])
					}
				}
			}
		})
	}
}

// TestLateDatagramsOutlastTheFault: they are on their way. Those that are sent later overtake them.
func TestLateDatagramsOutlastTheFault(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		const delay = 80 * time.Millisecond
		l.inject(dems.Fault{Kind: dems.Latency, Delay: delay, Lasts: time.Second})
		time.Sleep(time.Second - delay/2)
		l.send("n1", "n2", "slow")
		l.send("n2", "n1", "slow back")
		received := make(chan string, 4)
		go func() {
			for range 2 {
				text, after := l.receive("n1", time.Minute)
				received <- fmt.Sprint(text, " ", after)
			}
		}()
		time.Sleep(delay/2 + time.Millisecond)
		l.send("n1", "n2", "fast")
		l.send("n2", "n1", "fast back")
		if text, after := l.receive("n2", time.Second); text != "n1: fast" || after != 0 {
			t.Errorf("%q after %v", text, after)
		}
		if text, after := l.receive("n2", time.Second); text != "n1: slow" || after != delay/2-time.Millisecond {
			t.Errorf("%q after %v", text, after)
		}
		if first, second := <-received, <-received; first != "n2: fast back 41ms" || second != "n2: slow back 39ms" {
			t.Errorf("%s; %s", first, second)
		}
	})
}

func TestJitterIsBoundedAndReorders(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		const delay, jitter, count = 10 * time.Millisecond, 40 * time.Millisecond, 200
		l.inject(dems.Fault{Kind: dems.Latency, Delay: delay, Jitter: jitter})
		begin := time.Now()
		for i := range count {
			l.send("n1", "n2", fmt.Sprintf("%03d", i))
			l.send("n2", "n1", fmt.Sprintf("%03d", i))
		}
		var got [2][]string
		var group sync.WaitGroup
		for i, name := range []string{"n2", "n1"} {
			group.Go(func() {
				for range count {
					text, _ := l.receive(name, time.Second)
					got[i] = append(got[i], text[len(text)-3:])
					if took := time.Since(begin); took < delay || took > delay+jitter {
						t.Errorf("%s took %v", text, took)
					}
				}
			})
		}
		group.Wait()
		for _, texts := range got {
			if slices.IsSorted(texts) {
				t.Error("nothing overtook anything")
			}
			if slices.Sort(texts); len(slices.Compact(texts)) != count {
				t.Error("something came twice")
			}
		}
	})
}

// TestTheQueueIsBounded: what does not fit is lost, whichever way it goes, and the queue has room again afterwards.
func TestTheQueueIsBounded(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.inject(dems.Fault{Kind: dems.Latency, Delay: time.Second})
		const size = 60_000
		const fit = maxLateBytes / (size + datagramBytes)
		text := strings.Repeat("x", size)
		for range 2 {
			for range fit + 100 {
				l.send("n1", "n2", text)
			}
			arrived := 0
			for got, _ := l.receive("n2", 2*time.Second); got != ""; got, _ = l.receive("n2", 2*time.Second) {
				arrived++
			}
			if arrived != fit {
				t.Errorf("%d datagrams arrived, want %d", arrived, fit)
			}
		}
		if l.network.late.late.bytes != 0 {
			t.Errorf("the queue is empty and has %d bytes", l.network.late.late.bytes)
		}
		incoming := &queue{}
		for range fit {
			if !incoming.add(datagram{data: make([]byte, size)}) {
				t.Fatal("refused although there is room")
			}
		}
		if incoming.add(datagram{data: make([]byte, size)}) {
			t.Error("taken although there is no room")
		}
	})
}

// TestClosingSendsWhatIsLate: it was sent, and would have arrived.
func TestClosingSendsWhatIsLate(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.inject(dems.Fault{Kind: dems.Latency, Delay: 5 * time.Second})
		l.send("n1", "n2", "first")
		l.send("n1", "n2", "second")
		l.network.Close()
		for _, want := range []string{"n1: first", "n1: second"} {
			if text, after := l.receive("n2", time.Second); text != want || after != 0 {
				t.Errorf("%q after %v", text, after)
			}
		}
		if err := l.network.Inject(t.Context(), dems.Fault{Kind: dems.Partition, Lasts: 1}); !errors.Is(err, errClosed) {
			t.Errorf("a fault after the end: %v", err)
		}
		if l.network.late.add(datagram{}) {
			t.Error("something was taken that nobody sends any more")
		}
		l.network.Close()
	})
}

// TestDeadlinesHoldWhileSomethingIsLate: the reader looks at what is late in between, and nobody notices.
func TestDeadlinesHoldWhileSomethingIsLate(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.inject(dems.Fault{Kind: dems.Latency, Delay: 100 * time.Millisecond, Direction: dems.Incoming})
		l.send("n2", "n1", "late")
		for _, within := range []time.Duration{0, 30 * time.Millisecond, 30 * time.Millisecond} {
			if text, _ := l.receive("n1", within); text != "" {
				t.Errorf("%q arrived early", text)
			}
		}
		if text, after := l.receive("n1", time.Second); text != "n2: late" || after != 40*time.Millisecond {
			t.Errorf("%q after %v", text, after)
		}
		// As quic-go does to end its reader.
		l.send("n2", "n1", "later")
		ended := make(chan time.Duration)
		begin := time.Now()
		go func() {
			_ = l.sockets["n1"].SetDeadline(time.Time{})
			_, _, err := l.sockets["n1"].ReadFrom(make([]byte, 16))
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the reader ended with %v", err)
			}
			ended <- time.Since(begin)
		}()
		time.Sleep(20 * time.Millisecond)
		_ = l.sockets["n1"].SetReadDeadline(time.Now())
		if after := <-ended; after != 20*time.Millisecond {
			t.Errorf("the reader ended after %v", after)
		}
	})
}

func TestABrokenSocketIsReported(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.inject(dems.Fault{Kind: dems.Latency, Delay: 100 * time.Millisecond})
		l.send("n2", "n1", "late")
		if text, _ := l.receive("n1", 50*time.Millisecond); text != "" {
			t.Errorf("%q arrived early", text)
		}
		_ = l.sockets["n1"].Close()
		if _, _, err := l.sockets["n1"].ReadFrom(make([]byte, 16)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading: %v", err)
		}
		l.network.Heal()
		if _, err := l.sockets["n1"].WriteTo([]byte("x"), faultnet.Addr("n2")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing: %v", err)
		}
	})
}

func TestOtherFaultsAreRefused(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		for _, fault := range []dems.Fault{
			{}, {Kind: dems.Mute}, {Kind: dems.Slow, Delay: time.Second}, {Kind: dems.Partition}, {Kind: dems.Latency}, {Kind: 99},
		} {
			if err := l.network.Inject(t.Context(), fault); err == nil {
				t.Errorf("%+v was taken", fault)
			}
		}
		if l.lookups != 0 || len(l.network.faults) != 0 {
			t.Error("something was begun")
		}
	})
}

func TestKeys(t *testing.T) {
	v4, v6 := net.IPv4(10, 0, 0, 1), net.ParseIP("fe80::1")
	got := []string{
		key(&net.UDPAddr{IP: v4, Port: 7000}), key(&net.UDPAddr{IP: v4.To4(), Port: 7000}),
		key(&net.UDPAddr{IP: v6, Port: 7000, Zone: "eth0"}), key(&net.UDPAddr{IP: v6, Port: 7000}), key(faultnet.Addr("n1:7000")),
	}
	want := []string{"10.0.0.1:7000", "10.0.0.1:7000", "[fe80::1]:7000", "[fe80::1]:7000", "n1:7000"}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Error(difference)
	}
}
