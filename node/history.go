package node

import (
	"context"
	"sort"
	"sync"

	"dems"
)

// historyStates is how many states' digests a node remembers: seconds of full load, hours of little. It bounds how late a
// peer may ask; each takes 24 bytes.
const historyStates = 65536

// history remembers the digests of the states that this node has been in.
type history struct {
	mu     sync.Mutex
	states []stateDigest // slot n % len(states) holds state n
	first  uint64        // the states held are first to next-1, in the order of their indexes
	next   uint64
}

// stateDigest is the digest of the state after the entry with an index.
type stateDigest struct {
	index  uint64
	digest dems.Digest
}

func newHistory(size int) *history { return &history{states: make([]stateDigest, size)} }

// add notes the state after an entry. A second one with the same index takes the place of the first: the state turned out
// to be another one than was thought.
func (h *history) add(index uint64, digest dems.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.next > h.first && h.held(h.next-1).index >= index {
		h.next--
	}
	*h.held(h.next) = stateDigest{index, digest}
	h.next++
	h.first = max(h.first, h.next-min(h.next, uint64(len(h.states))))
}

// restored notes a state that came whole, from a snapshot. What was before says nothing of it and is forgotten.
func (h *history) restored(index uint64, digest dems.Digest) {
	h.mu.Lock()
	h.first = h.next
	h.mu.Unlock()
	h.add(index, digest)
}

// at returns the digest of the state after the entry with an index; false if it is not known, or not any more. Indexes of
// entries that Raft keeps to itself have none.
func (h *history) at(index uint64) (dems.Digest, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.first + uint64(sort.Search(int(h.next-h.first), func(i int) bool { return h.held(h.first+uint64(i)).index >= index }))
	if n == h.next || h.held(n).index != index {
		return dems.Digest{}, false
	}
	return h.held(n).digest, true
}

func (h *history) held(n uint64) *stateDigest { return &h.states[n%uint64(len(h.states))] }

// StateAt implements transport.Handler.
func (n *Node) StateAt(_ context.Context, index uint64) (dems.Digest, error) {
	if err := n.gone(); err != nil {
		return dems.Digest{}, err
	}
	digest, known := n.state.history.at(index)
	if err := n.gone(); err != nil { // while it was being looked up
		return dems.Digest{}, err
	}
	if !known {
		return dems.Digest{}, replicaError(dems.NotReady, errNotApplied)
	}
	return digest, nil
}
