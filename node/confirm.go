package node

import (
	"context"
	"fmt"
	"time"

	"dems"

	"github.com/hashicorp/raft"
)

const (
	// installTimeout bounds asking the voters about a snapshot from the leader. Nothing is applied meanwhile.
	installTimeout = 500 * time.Millisecond
	// takeTimeout bounds asking them about a snapshot of this node's own state. Only the snapshot waits.
	takeTimeout = 5 * time.Second
)

// confirm asks the voters of a configuration what state they had at an index, and returns an error if a majority of them
// had another one: that state must not be taken over. A voter that is not there yet is asked again until the time is up.
//
// Where too few can tell, a snapshot from the leader is installed nevertheless: without it the node may be the one that the
// cluster lacks, and what it then votes is compared. A snapshot of its own state is not taken then: it would cut the log, and
// could be all that a node which comes back later gets to see.
func (n *Node) confirm(ctx context.Context, atMost time.Duration, servers []raft.Server, index uint64, digest dems.Digest, own bool) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	defer context.AfterFunc(n.work, cancel)()
	voters, asked, same := 0, 0, 0
	answers := make(chan voterDigest, len(servers))
	for _, member := range members(servers) {
		if member.Suffrage != dems.Voter {
			continue
		}
		voters++
		if member.ID != n.config.ID && n.replica(member.ID) != nil {
			asked++
			go func() { answers <- n.digestOf(ctx, member.ID, index) }()
		} else if had, known := n.state.history.at(index); member.ID == n.config.ID && known && had == digest {
			same++
		}
	}
	needed, others := voters/2+1, make(map[dems.Digest]int)
	var contradiction error
	for ; asked > 0; asked-- { // all of them answer: ctx ends their calls
		got := <-answers
		switch {
		case got.err != nil:
		case got.digest == digest:
			same++
		default:
			if others[got.digest]++; others[got.digest] >= needed {
				contradiction = fmt.Errorf("the state at index %d has digest %s, but %d of %d voters had %s", index, digest,
					others[got.digest], voters, got.digest)
			}
		}
		if contradiction != nil || same >= needed {
			cancel()
		}
	}
	switch {
	case contradiction != nil || same >= needed:
		return contradiction
	case n.work.Err() != nil:
		return errStopping
	case own:
		return fmt.Errorf("the state at index %d: %d of %d voters confirm it, %d are needed", index, same, voters, needed)
	}
	return nil
}
