package node

import (
	"context"
	"sync"

	"dems"

	"github.com/hashicorp/raft"
)

// announcer tells followers at once what has been committed. Raft itself tells them with the next entries or, where none
// come, after CommitTimeout; until then they do not apply, and a majority has not voted.
//
// When a proposal has been applied here and no other is in flight, every follower is sent an AppendEntries without
// entries: previous entry the one committed, leader's commit index the same. That is what Raft sends after CommitTimeout,
// only earlier. It is true for ever that this entry is in the leader's log of that term and is committed, so late or
// repeated messages do no harm; a follower that does not have the entry yet refuses, and gets it in the normal way. Unlike
// a barrier, it costs no write to any disk.
type announcer struct {
	mu          sync.Mutex
	inFlight    int
	unannounced notice
	mailboxes   map[dems.NodeID]chan notice // each holds the newest notice that was not sent yet
}

// notice says that the entry of that index and term is committed; index 0 says nothing.
type notice struct{ index, term uint64 }

func newAnnouncer(peers []dems.NodeID) *announcer {
	a := &announcer{mailboxes: make(map[dems.NodeID]chan notice)}
	for _, id := range peers {
		a.mailboxes[id] = make(chan notice, 1)
	}
	return a
}

// begin notes that a proposal is on its way.
func (a *announcer) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight++
}

// end notes what became of it.
func (a *announcer) end(committed notice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight--
	if committed.index > a.unannounced.index {
		a.unannounced = committed
	}
	if a.inFlight > 0 || a.unannounced.index == 0 {
		return
	}
	for _, mailbox := range a.mailboxes {
		select {
		case <-mailbox: // an older one
		default:
		}
		mailbox <- a.unannounced
	}
	a.unannounced = notice{}
}

// announceTo sends notices to one peer until ctx ends.
func (n *Node) announceTo(ctx context.Context, r *raft.Raft, peer dems.NodeID) {
	mailbox := n.announcer.mailboxes[peer]
	leader := []byte(n.config.ID) // as raftTransport.EncodePeer has it
	for {
		var committed notice
		select {
		case <-ctx.Done():
			return
		case committed = <-mailbox:
		}
		id, member := n.memberID(peer)
		if !member || r.State() != raft.Leader || r.CurrentTerm() != committed.term {
			continue
		}
		request := raft.AppendEntriesRequest{
			RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.serverID), Addr: leader},
			Term:         committed.term,
			Leader:       leader, //lint:ignore SA1019 older members still read it
			PrevLogEntry: committed.index, PrevLogTerm: committed.term, LeaderCommitIndex: committed.index,
		}
		var response raft.AppendEntriesResponse
		if err := n.transport.AppendEntries(id, raft.ServerAddress(peer), &request, &response); err != nil {
			n.logger.Debug("announce commit", "peer", peer, "error", err)
		}
	}
}
