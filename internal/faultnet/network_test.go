package faultnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a socket that is closed with the network.
func open(t *testing.T, network *Network, address string) net.PacketConn {
	t.Helper()
	socket, err := network.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	return socket
}

func send(t *testing.T, from net.PacketConn, to, text string) {
	t.Helper()
	if _, err := from.WriteTo([]byte(text), Addr(to)); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next packet that arrives within a second, or "".
func receive(t *testing.T, socket net.PacketConn) string {
	t.Helper()
	socket.SetReadDeadline(time.Now().Add(time.Second))
	defer socket.SetReadDeadline(time.Time{})
	var data [64]byte
	n, _, err := socket.ReadFrom(data[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data[:n])
}

// inBubble runs a test with two sockets a and b, in virtual time.
func inBubble(t *testing.T, test func(t *testing.T, network *Network, a, b net.PacketConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := New(1)
		defer network.Close()
		test(t, network, open(t, network, "a:1"), open(t, network, "b:1"))
	})
}

func TestDelivery(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, b net.PacketConn) {
		data := []byte("hello")
		if n, err := a.WriteTo(data, b.LocalAddr()); n != 5 || err != nil {
			t.Fatalf("WriteTo: %d, %v", n, err)
		}
		data[0] = 'X' // the network keeps a copy
		var buffer [64]byte
		n, from, err := b.ReadFrom(buffer[:])
		if err != nil || string(buffer[:n]) != "hello" || from.String() != "a:1" || from.Network() != "faultnet" {
			t.Fatalf("got %q from %v, %v", buffer[:n], from, err)
		}
		send(t, a, "nobody:1", "lost")
		if sent, dropped := network.Counts(); sent != 2 || dropped != 1 {
			t.Errorf("counts %d, %d; want 2 sent, 1 dropped", sent, dropped)
		}
	})
}

func TestShortBufferCutsThePacket(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Network, a, b net.PacketConn) {
		send(t, a, "b:1", "long")
		send(t, a, "b:1", "next")
		var buffer [2]byte
		if n, _, err := b.ReadFrom(buffer[:]); n != 2 || err != nil || string(buffer[:]) != "lo" {
			t.Errorf("got %q, %v", buffer[:n], err)
		}
		if got := receive(t, b); got != "next" {
			t.Errorf("the rest of a packet was not dropped: %q", got)
		}
	})
}

func TestDelayIsExactAndKeepsTheOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, b net.PacketConn) {
		network.SetLink("a:1", "b:1", Link{Delay: 30 * time.Millisecond})
		start := time.Now()
		for i := range 100 {
			send(t, a, "b:1", fmt.Sprint(i))
		}
		for i := range 100 {
			if got := receive(t, b); got != fmt.Sprint(i) {
				t.Fatalf("packet %d: got %q", i, got)
			}
			if took := time.Since(start); took != 30*time.Millisecond {
				t.Fatalf("packet %d took %v", i, took)
			}
		}
		start = time.Now()
		send(t, b, "a:1", "back")
		if got := receive(t, a); got != "back" || time.Since(start) != 0 {
			t.Errorf("the other direction: %q after %v", got, time.Since(start))
		}
	})
}

func TestAShorterDelayOvertakes(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, b net.PacketConn) {
		network.SetLink("a:1", "b:1", Link{Delay: time.Second / 2})
		send(t, a, "b:1", "slow")
		network.SetLink("a:1", "b:1", Link{Delay: time.Second / 10})
		send(t, a, "b:1", "fast")
		if first, second := receive(t, b), receive(t, b); first != "fast" || second != "slow" {
			t.Errorf("got %q, %q", first, second)
		}
	})
}

func TestJitterReorders(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, b net.PacketConn) {
		network.SetAll(Link{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond})
		start := time.Now()
		const count = 50
		for i := range count {
			send(t, a, "b:1", fmt.Sprintf("%02d", i))
		}
		ordered, previous := true, ""
		for range count {
			got := receive(t, b)
			ordered = ordered && previous <= got
			previous = got
			if took := time.Since(start); took < 10*time.Millisecond || took >= 20*time.Millisecond {
				t.Fatalf("a packet took %v", took)
			}
		}
		if ordered {
			t.Error("no packet overtook another")
		}
	})
}

func TestLossIsDrawnFromTheSeed(t *testing.T) {
	survivors := func(seed uint64) (text string) {
		synctest.Test(t, func(t *testing.T) {
			network := New(seed)
			defer network.Close()
			a, b := open(t, network, "a:1"), open(t, network, "b:1")
			network.SetAll(Link{Loss: 0.25})
			for i := range 1000 {
				send(t, a, "b:1", fmt.Sprint(i)+" ")
			}
			for got := receive(t, b); got != ""; got = receive(t, b) {
				text += got
			}
			if _, dropped := network.Counts(); dropped < 200 || dropped > 300 {
				t.Errorf("seed %d: %d of 1000 packets lost, want about 250", seed, dropped)
			}
		})
		return text
	}
	if first, again := survivors(7), survivors(7); first != again {
		t.Error("one seed lost different packets in two runs")
	}
	if survivors(7) == survivors(8) {
		t.Error("two seeds lost the same packets")
	}
}

func TestCutIsOneWay(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, b net.PacketConn) {
		network.SetLink("a:1", "b:1", Link{Cut: true})
		send(t, a, "b:1", "there")
		send(t, b, "a:1", "back")
		if got := receive(t, b); got != "" {
			t.Errorf("%q went through a cut link", got)
		}
		if got := receive(t, a); got != "back" {
			t.Errorf("the other direction got %q", got)
		}
		network.SetLink("a:1", "b:1", Link{})
		send(t, a, "b:1", "again")
		if got := receive(t, b); got != "again" {
			t.Errorf("after the repair got %q", got)
		}
	})
}

func TestPartition(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, b net.PacketConn) {
		sockets := map[string]net.PacketConn{"a:1": a, "b:1": b, "c:1": open(t, network, "c:1"), "d:1": open(t, network, "d:1")}
		network.Partition([]string{"a:1", "b:1"}, []string{"c:1"})
		reaches := map[string]bool{
			"a:1 b:1": true, "b:1 a:1": true, "a:1 c:1": false, "c:1 b:1": false,
			"a:1 d:1": true, "d:1 c:1": true, "c:1 c:1": true, // d is in no group
		}
		check := func() {
			for pair, want := range reaches {
				from, to := pair[:3], pair[4:]
				send(t, sockets[from], to, pair)
				if got := receive(t, sockets[to]) == pair; got != want {
					t.Errorf("%s reaches %s: %v, want %v", from, to, got, want)
				}
			}
		}
		check()
		network.Partition([]string{"a:1"}, []string{"b:1", "c:1"}) // replaces the first
		reaches["a:1 b:1"], reaches["b:1 a:1"], reaches["c:1 b:1"] = false, false, true
		check()
		network.SetAll(Link{Cut: true})
		network.Heal()
		for pair := range reaches {
			reaches[pair] = true
		}
		check()
	})
}

func TestAFullQueueDropsTheNewest(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, b net.PacketConn) {
		for i := range queuePackets + 10 {
			send(t, a, "b:1", fmt.Sprint(i))
		}
		if _, dropped := network.Counts(); dropped != 10 {
			t.Errorf("%d dropped, want 10", dropped)
		}
		for i := range queuePackets {
			if got := receive(t, b); got != fmt.Sprint(i) {
				t.Fatalf("packet %d: got %q", i, got)
			}
		}
	})
}

func TestPacketsOnTheirWayAreLimited(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, _ net.PacketConn) {
		network.SetAll(Link{Delay: time.Hour})
		for range maxDelayed + 5 {
			send(t, a, "b:1", "x")
		}
		if _, dropped := network.Counts(); dropped != 5 {
			t.Errorf("%d dropped, want 5", dropped)
		}
	})
}

func TestDeadlines(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Network, a, b net.PacketConn) {
		var buffer [8]byte
		b.SetDeadline(time.Now().Add(-time.Second))
		_, _, err := b.ReadFrom(buffer[:])
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past deadline: %v", err)
		}
		b.SetReadDeadline(time.Time{})
		read := make(chan error)
		go func() {
			_, _, err := b.ReadFrom(buffer[:])
			read <- err
		}()
		synctest.Wait()
		b.SetReadDeadline(time.Now()) // wakes a read that waits
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline set during a read: %v", err)
		}
		if err := a.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Error(err)
		}
		send(t, a, "b:1", "written") // writes never wait
		if got := receive(t, b); got != "written" {
			t.Errorf("got %q", got)
		}
	})
}

func TestClose(t *testing.T) {
	inBubble(t, func(t *testing.T, network *Network, a, b net.PacketConn) {
		if _, err := network.Listen("a:1"); err == nil {
			t.Error("an address was given twice")
		}
		read := make(chan error)
		go func() {
			var buffer [8]byte
			_, _, err := b.ReadFrom(buffer[:])
			read <- err
		}()
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read during Close: %v", err)
		}
		if _, err := b.WriteTo([]byte("x"), a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
		if err := b.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
		successor := open(t, network, "b:1")
		send(t, a, "b:1", "for the successor")
		if got := receive(t, successor); got != "for the successor" {
			t.Errorf("got %q", got)
		}
		network.Close()
		network.Close()
		if _, _, err := a.ReadFrom(make([]byte, 8)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after the network closed: %v", err)
		}
		if _, err := network.Listen("c:1"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Listen after the network closed: %v", err)
		}
	})
}

func TestTooLongAPacket(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Network, a, b net.PacketConn) {
		if _, err := a.WriteTo(make([]byte, maxPacketBytes+1), b.LocalAddr()); err == nil {
			t.Error("no error")
		}
		if address, err := b.(*Conn).ResolveAddr("a:1"); err != nil || address != a.LocalAddr() {
			t.Errorf("ResolveAddr: %v, %v", address, err)
		}
	})
}
