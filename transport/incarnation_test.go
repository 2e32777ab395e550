package transport

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"dems"

	"github.com/hashicorp/raft"
	"github.com/quic-go/quic-go"
)

// TestANodeReachesItself shows that one socket may be both ends of a connection: a node asks itself as it asks any other.
func TestANodeReachesItself(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1 := lab.start("n1", Config{})
		n1.Serve(&stub{propose: echo})
		if _, err := n1.Peer("n1").Propose(t.Context(), []byte("x")); err != nil {
			t.Errorf("a call: %v", err)
		}
		network := raft.NewNetworkTransport(n1.RaftLayer(1, dems.Origin{}), 1, 2*time.Second, io.Discard)
		defer network.Close()
		go func() {
			request := <-network.Consumer()
			_, right := request.Command.(*raft.TimeoutNowRequest)
			if !right {
				t.Errorf("got %T", request.Command)
			}
			request.Respond(&raft.TimeoutNowResponse{}, nil)
		}()
		if err := network.TimeoutNow("n1.1", "n1.1", &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); err != nil {
			t.Errorf("a message of Raft: %v", err)
		}
	})
}

// TestStreamsForAnotherLifeAreRefused has a peer that knows a node's first life only, or already its third, speak to its
// second.
func TestStreamsForAnotherLifeAreRefused(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		n1, n2 := lab.start("n1", Config{}).RaftLayer(2, dems.Origin{}), lab.start("n2", Config{}).RaftLayer(7, dems.Origin{})
		open := func(address raft.ServerAddress, first []byte) (accepted, dialled *raftStream) {
			stream, err := n2.Dial(address, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			written := make(chan error, 1)
			go func() {
				count, err := stream.Write(first)
				if err == nil && count != len(first) {
					err = io.ErrShortWrite
				}
				written <- err
			}()
			other, err := n1.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if len(first) < streamWindow { // it need not be read for that
				if err := <-written; err != nil {
					t.Fatal(err)
				}
			}
			return other.(*raftStream), stream.(*raftStream)
		}
		for _, address := range []raft.ServerAddress{"n1.1", "n1.3", "n1.18446744073709551615"} {
			accepted, dialled := open(address, []byte("secret"))
			for range 2 {
				got := make([]byte, 20)
				if count, err := accepted.Read(got); err == nil || count != 0 || errors.Is(err, io.EOF) {
					t.Errorf("%s: read %q, %v", address, got[:count], err)
				}
			}
			_, err := dialled.Read(make([]byte, 1))
			if reset, ok := errors.AsType[*quic.StreamError](err); !ok || reset.ErrorCode != streamRefused {
				t.Errorf("%s: the peer learns %v", address, err)
			}
			accepted.Close()
			dialled.Close()
		}
		for _, size := range []int{1, 8, 2 * streamWindow} {
			sent := bytes.Repeat([]byte{9, 8, 7}, size)
			accepted, dialled := open("n1.2", sent)
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(accepted, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes: %v", len(sent), err)
			}
			if _, err := accepted.Write([]byte("answer")); err != nil { // answers carry no incarnation
				t.Error(err)
			}
			answer := make([]byte, 6)
			if _, err := io.ReadFull(dialled, answer); err != nil || string(answer) != "answer" {
				t.Errorf("%q, %v", answer, err)
			}
			accepted.Close()
			dialled.Close()
		}
	})
}

func TestRaftAddresses(t *testing.T) {
	layer := start(t, "n1", Config{}).RaftLayer(1, dems.Origin{})
	for _, address := range []raft.ServerAddress{"", "n2", "n2.", ".1", "n2.x", "n2.-1", "n2.1.1", "N2.1", "n2.18446744073709551616"} {
		if _, err := layer.Dial(address, time.Second); err == nil || !strings.Contains(err.Error(), "raft address") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestStreamsOfAnotherClusterAreRefused has nodes of the same names and incarnations meet that were restored from different
// backups, or of which one was not restored.
func TestStreamsOfAnotherClusterAreRefused(t *testing.T) {
	one, other := dems.Origin{Index: 7, Digest: dems.Digest{1}}, dems.Origin{Index: 7, Digest: dems.Digest{2}}
	for _, origins := range [][2]dems.Origin{{one, one}, {one, other}, {{}, one}, {one, {}}, {{}, {}}} {
		inLab(t, func(t *testing.T, lab *lab) {
			n1, n2 := lab.start("n1", Config{}).RaftLayer(1, origins[0]), lab.start("n2", Config{}).RaftLayer(1, origins[1])
			dialled, err := n2.Dial("n1.1", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer dialled.Close()
			if _, err := dialled.Write([]byte("vote")); err != nil {
				t.Fatal(err)
			}
			accepted, err := n1.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			got := make([]byte, 4)
			if _, err := io.ReadFull(accepted, got); (err == nil) != (origins[0] == origins[1]) {
				t.Errorf("to %v from %v: read %q, %v", origins[0], origins[1], got, err)
			}
		})
	}
}
