package faulty

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"dems"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
)

// What quic-go looks for in a socket before it reads and sends many datagrams at once.
var (
	_ quic.OOBCapablePacketConn = (*messageConn)(nil)
	_ interface {
		ReadBatch([]ipv4.Message, int) (int, error)
	} = (*messageConn)(nil)
	_ interface{ SetWriteBuffer(int) error } = (*messageConn)(nil)
)

func udp(t *testing.T) *net.UDPConn {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return socket
}

func addressOf(socket net.PacketConn) *net.UDPAddr { return socket.LocalAddr().(*net.UDPAddr) }

// onUDP returns the socket of n1 with a network that can be faulty, and the plain ones of n2 and a front end.
func onUDP(t *testing.T) (n1 *messageConn, n2, frontEnd *net.UDPConn) {
	t.Helper()
	socket := udp(t)
	n2, frontEnd = udp(t), udp(t)
	lookup := func(_ context.Context, node dems.NodeID) ([]net.Addr, error) {
		if node == "n2" {
			return []net.Addr{addressOf(n2)}, nil
		}
		return []net.Addr{addressOf(socket)}, nil
	}
	network := New(socket, []dems.NodeID{"n1", "n2"}, lookup, slog.New(slog.DiscardHandler))
	t.Cleanup(network.Close)
	n1, ok := network.Conn().(*messageConn)
	if !ok {
		t.Fatal("the socket lost what makes it fast")
	}
	return n1, n2, frontEnd
}

// begin injects a fault and waits until it is in force.
func begin(t *testing.T, n *Network, fault dems.Fault) {
	t.Helper()
	if err := n.Inject(t.Context(), fault); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return n.rules.Load() != nil })
}

// await waits until something holds.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("nothing happened for long")
		}
	}
}

// write sends a text as quic-go does.
func write(t *testing.T, from interface {
	WriteMsgUDP(data, control []byte, to *net.UDPAddr) (int, int, error)
}, to net.PacketConn, text string, control ...byte) {
	t.Helper()
	size, controlSize, err := from.WriteMsgUDP([]byte(text), control, addressOf(to))
	if size != len(text) || controlSize != len(control) || err != nil {
		t.Fatalf("sent %d and %d bytes: %v", size, controlSize, err)
	}
}

// batch returns messages as quic-go has them.
func batch(size int) []ipv4.Message {
	messages := make([]ipv4.Message, size)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 1452)}
		messages[i].OOB = make([]byte, 128)
	}
	return messages
}

// read reads at least so many datagrams and returns their texts.
func read(t *testing.T, c *messageConn, count int) []string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	var texts []string
	for len(texts) < count {
		messages := batch(8)
		buffers := make([]*byte, len(messages))
		for i := range messages {
			buffers[i] = &messages[i].Buffers[0][0]
		}
		got, err := c.ReadBatch(messages, 0)
		if err != nil || got == 0 {
			t.Fatalf("%d messages, %v", got, err)
		}
		for i := range messages {
			if &messages[i].Buffers[0][0] != buffers[i] {
				t.Errorf("the buffer of message %d has moved", i)
			}
		}
		for _, m := range messages[:got] {
			texts = append(texts, string(m.Buffers[0][:m.N]))
		}
	}
	return texts
}

// receive returns the next datagram at a plain socket, and the control data with it.
func receive(t *testing.T, socket *net.UDPConn) (text string, control []byte) {
	t.Helper()
	_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
	data, control := make([]byte, 2000), make([]byte, 128)
	size, controlSize, _, _, err := socket.ReadMsgUDP(data, control)
	if err != nil {
		t.Fatal(err)
	}
	return string(data[:size]), control[:controlSize]
}

// TestBatchesAreSifted sends datagrams that are lost between others that are not: the loopback keeps the order, so that
// what was sent before something that arrived, and did not arrive, is lost.
func TestBatchesAreSifted(t *testing.T) {
	n1, n2, frontEnd := onUDP(t)
	begin(t, n1.network, dems.Fault{Kind: dems.Partition, Lasts: time.Minute, Peers: []string{"n2"}})
	var want []string
	for i := range 100 {
		write(t, n2, n1, fmt.Sprint("lost ", i))
		text := fmt.Sprint("a longer text than the one before ", i)
		write(t, frontEnd, n1, text)
		want = append(want, text)
	}
	if difference := cmp.Diff(want, read(t, n1, 100)); difference != "" {
		t.Error(difference)
	}
	write(t, n1, n2, "lost")
	write(t, n1, frontEnd, "arrives")
	if text, _ := receive(t, frontEnd); text != "arrives" {
		t.Errorf("%q", text)
	}
	n1.network.Heal()
	write(t, n1, n2, "healed")
	if text, _ := receive(t, n2); text != "healed" {
		t.Errorf("%q", text)
	}
	write(t, n2, n1, "healed")
	if texts := read(t, n1, 1); texts[0] != "healed" {
		t.Errorf("%q", texts)
	}
}

// TestARealPartitionHealsByItself, and not before its time.
func TestARealPartitionHealsByItself(t *testing.T) {
	n1, n2, _ := onUDP(t)
	const lasts = 50 * time.Millisecond
	began := time.Now()
	if err := n1.network.Inject(t.Context(), dems.Fault{Kind: dems.Partition, Lasts: lasts}); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		n1.network.mu.Lock()
		defer n1.network.mu.Unlock()
		return len(n1.network.faults) == 0
	})
	if took := time.Since(began); took < Grace+lasts {
		t.Errorf("it ended after %v", took)
	}
	write(t, n1, n2, "healed")
	if text, _ := receive(t, n2); text != "healed" {
		t.Errorf("%q", text)
	}
}

// TestLateBatches: every datagram comes, none before its time, however many come at once.
func TestLateBatches(t *testing.T) {
	const delay, count = 30 * time.Millisecond, 100
	n1, n2, _ := onUDP(t)
	begin(t, n1.network, dems.Fault{Kind: dems.Latency, Delay: delay})
	var sent []string
	sending := time.Now()
	for i := range count {
		sent = append(sent, fmt.Sprint(i))
		write(t, n2, n1, sent[i])
		write(t, n1, n2, sent[i])
	}
	for _, want := range sent {
		if text, _ := receive(t, n2); text != want {
			t.Fatalf("%q arrived, want %q", text, want)
		}
	}
	if took := time.Since(sending); took < delay {
		t.Errorf("n2 has all after %v", took)
	}
	reading := time.Now()
	got := read(t, n1, count)
	if took := time.Since(reading); took < delay { // reading is what they are late from: nobody looked before
		t.Errorf("n1 has all after %v", took)
	}
	if difference := cmp.Diff(sent, got); difference != "" {
		t.Error(difference)
	}
	if n1.late.Len() != 0 || n1.late.bytes != 0 || !n1.alarm.IsZero() && n1.setAlarm() != nil {
		t.Errorf("%d datagrams of %d bytes are left", n1.late.Len(), n1.late.bytes)
	}
}

// control returns control data for the kernel, or from it.
func control(level, kind int32, value []byte) []byte {
	data := make([]byte, syscall.CmsgSpace(len(value)))
	header := (*syscall.Cmsghdr)(unsafe.Pointer(&data[0]))
	header.Level, header.Type = level, kind
	header.SetLen(syscall.CmsgLen(len(value)))
	copy(data[syscall.CmsgLen(0):], value)
	return data
}

// TestControlDataIsKept: congestion marks and the size by which the kernel divides what is sent at once survive being late.
func TestControlDataIsKept(t *testing.T) {
	const (
		solUDP, udpSegment = 17, 103 // of the kernel; package syscall has them not
		marked             = 2       // ECT(0)
	)
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		n1, n2, _ := onUDP(t)
		for _, socket := range []syscall.Conn{n1, n2} {
			raw, err := socket.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var failed error
			err = raw.Control(func(descriptor uintptr) {
				failed = syscall.SetsockoptInt(int(descriptor), syscall.IPPROTO_IP, syscall.IP_RECVTOS, 1)
			})
			if errors.Join(err, failed) != nil {
				t.Fatal(err, failed)
			}
		}
		if delay > 0 {
			begin(t, n1.network, dems.Fault{Kind: dems.Latency, Delay: delay})
		}
		mark := control(syscall.IPPROTO_IP, syscall.IP_TOS, []byte{marked})
		divided := slices.Concat(control(solUDP, udpSegment, binary.NativeEndian.AppendUint16(nil, 1000)), mark)
		arrives := control(syscall.IPPROTO_IP, syscall.IP_TOS, []byte{marked})
		write(t, n1, n2, strings.Repeat("a", 1000)+strings.Repeat("b", 500), divided...)
		for _, want := range []string{strings.Repeat("a", 1000), strings.Repeat("b", 500)} {
			text, got := receive(t, n2)
			if text != want || string(got) != string(arrives) {
				t.Errorf("late by %v: %d bytes with %x arrived, want %d with %x", delay, len(text), got, len(want), arrives)
			}
		}
		write(t, n2, n1, "back", mark...)
		messages := batch(2)
		_ = n1.SetReadDeadline(time.Now().Add(time.Minute))
		count, err := n1.ReadBatch(messages, 0)
		if m := messages[0]; count != 1 || err != nil || string(m.Buffers[0][:m.N]) != "back" || string(m.OOB[:m.NN]) != string(arrives) ||
			m.Addr.String() != n2.LocalAddr().String() {
			t.Errorf("late by %v: %d messages, %+v, %v", delay, count, m, err)
		}
	}
}

func TestReadingBatchesEnds(t *testing.T) {
	n1, n2, _ := onUDP(t)
	begin(t, n1.network, dems.Fault{Kind: dems.Latency, Delay: time.Second})
	write(t, n2, n1, "late")
	_ = n1.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if count, err := n1.ReadBatch(batch(4), 0); count > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d messages, %v", count, err)
	}
	if n1.late.Len() != 1 {
		t.Errorf("%d datagrams wait", n1.late.Len())
	}
	n1.Close()
	_ = n1.SetReadDeadline(time.Time{})
	if count, err := n1.ReadBatch(batch(4), 0); count > 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d messages, %v", count, err)
	}
	if _, _, _, _, err := n1.ReadMsgUDP(nil, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a way past the faults: %v", err)
	}
}
