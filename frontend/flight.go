package frontend

import (
	"slices"
	"sync"
	"time"

	"dems"
)

const (
	// patience is how long a batch waits for votes before it asks the silent nodes and looks for another leader.
	patience = 50 * time.Millisecond
	// doubt is how long after its leader's answer a batch without a majority is proposed again.
	doubt = time.Second
	// flightTimeout bounds a batch. It is longer than any request waits, so that only abandoned batches meet it.
	flightTimeout = 15 * time.Second
	// askTimeout bounds one question for a node's results.
	askTimeout = time.Second
)

// ballot is what one node got for a batch.
type ballot struct {
	node    *node
	index   uint64
	digest  dems.Digest
	results []byte // nil while only the digest is known
}

// flight is one batch in flight: its commands and the nodes' votes.
type flight struct {
	session, number uint64
	waiters         []*pending
	wake            chan struct{} // told that a vote came; holds one

	mu      sync.Mutex
	ballots []ballot // at most one per node
}

// cast counts a node's vote. Results, where given, speak for themselves: the digest is computed from them. A node's first
// vote counts, and later only adds the results to it.
func (f *flight) cast(n *node, index uint64, digest dems.Digest, results []byte) {
	if results != nil {
		digest = dems.DigestOf(results)
	}
	f.mu.Lock()
	known := false
	for i := range f.ballots {
		if b := &f.ballots[i]; b.node == n {
			known = true
			if b.results == nil && results != nil {
				b.digest, b.results = digest, results
			}
		}
	}
	if !known {
		f.ballots = append(f.ballots, ballot{n, index, digest, results})
	}
	f.mu.Unlock()
	f.signal()
}

// firstResults returns the first ballot that came with results, or nil.
func (f *flight) firstResults() *ballot {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.ballots {
		if f.ballots[i].results != nil {
			found := f.ballots[i]
			return &found
		}
	}
	return nil
}

// signal wakes the flight's goroutine.
func (f *flight) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// silent returns the voters that have not voted.
func (f *flight) silent(v *view) []*node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(v.voters), func(n *node) bool {
		return slices.ContainsFunc(f.ballots, func(b ballot) bool { return b.node == n })
	})
}

// count is the state of a vote.
type count struct {
	winner   *ballot // results that a majority got; nil while there are none
	agreeing int
	missing  []*node // nodes whose results are needed to go on: of the majority, or of all when the vote is split
	split    bool    // no digest can get a majority any more
}

// tally counts the votes of the voters.
func (f *flight) tally(v *view) count {
	f.mu.Lock()
	defer f.mu.Unlock()
	voted, best := 0, 0
	for i := range f.ballots {
		candidate := &f.ballots[i]
		if !v.isVoter(candidate.node) {
			continue
		}
		voted++
		same, holder, holders := 0, (*ballot)(nil), []*node(nil)
		for j := range f.ballots {
			if other := &f.ballots[j]; other.digest == candidate.digest && v.isVoter(other.node) {
				same++
				holders = append(holders, other.node)
				if other.results != nil {
					holder = other
				}
			}
		}
		best = max(best, same)
		if len(v.voters) > 0 && same >= v.majority() {
			return count{winner: holder, agreeing: same, missing: holders}
		}
	}
	if len(v.voters) == 0 || best+len(v.voters)-voted >= v.majority() {
		return count{}
	}
	split := count{split: true}
	for i := range f.ballots {
		if f.ballots[i].results == nil {
			split.missing = append(split.missing, f.ballots[i].node)
		}
	}
	return split
}
