package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
)

// nameServer answers every question with 127.0.0.1, but none of those that come while it is mute: not even later.
type nameServer struct {
	socket net.PacketConn
	mute   atomic.Bool
	heard  chan struct{} // told of every question; holds some
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{socket: socket, heard: make(chan struct{}, 64)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run()
	}()
	standard := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialer := net.Dialer{Resolver: new(net.Resolver)} // not the standard one: a lookup that was given up may still dial
		return dialer.DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = standard
		socket.Close()
		<-done
	})
	return s
}

func (s *nameServer) run() {
	question := make([]byte, 512)
	for {
		count, from, err := s.socket.ReadFrom(question)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				panic(err)
			}
			return
		}
		select {
		case s.heard <- struct{}{}:
		default:
		}
		if !s.mute.Load() {
			_, _ = s.socket.WriteTo(answerTo(question[:count]), from)
		}
	}
}

// answerTo makes the answer to one question as RFC 1035 has it, without what came after the question.
func answerTo(message []byte) []byte {
	const header, typeA = 12, 1
	end := header
	for message[end] != 0 { // the labels of the name
		end += 1 + int(message[end])
	}
	end += 1 + 4 // the root, type and class
	isA := binary.BigEndian.Uint16(message[end-4:]) == typeA
	answer := append([]byte(nil), message[:end]...)
	binary.BigEndian.PutUint16(answer[2:], 0x8180) // a response, without an error
	binary.BigEndian.PutUint16(answer[10:], 0)     // no additional records
	if isA {
		binary.BigEndian.PutUint16(answer[6:], 1)
		answer = append(answer, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return answer
}

// TestNamesAreLookedUpAgain begins to connect to a node whose name nobody resolves: as soon as somebody does, it connects, though
// the lookups that were begun before go on waiting for their answers.
func TestNamesAreLookedUpAgain(t *testing.T) {
	names := startNameServer(t)
	node := start(t, "n1", Config{})
	node.Serve(&stub{propose: echo})
	_, port, err := net.SplitHostPort(node.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	frontEnd := start(t, "fe1", Config{})
	names.mute.Store(true)
	outcome := make(chan error, 3)
	for i := range cap(outcome) { // connections of their own, to one name
		replica := frontEnd.Replica("n1.dems.test.:" + port)
		go func() {
			_, err := replica.Propose(t.Context(), fmt.Append(nil, i))
			outcome <- err
		}()
	}
	for range cap(outcome)*2 + 1 { // each for both kinds of address, and somebody once more
		select {
		case <-names.heard:
		case err := <-outcome:
			t.Fatalf("given up: %v", err)
		}
	}
	names.mute.Store(false)
	for range cap(outcome) {
		if err := <-outcome; err != nil {
			t.Error(err)
		}
	}
}
