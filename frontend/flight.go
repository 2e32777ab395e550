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
	// doubt is how long a leader's answer, and after it the votes of a majority, may take before somebody is asked again,
	// the first time, or, where the vote is split, before the results that are missing are done without.
	doubt = time.Second
	// checkTimeout bounds a batch that was answered before a majority was known, and is only being checked.
	checkTimeout = 15 * time.Second
	// askTimeout bounds one question for a node's results.
	askTimeout = time.Second
)

// ballot is what one node got for a batch.
type ballot struct {
	node    *node
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

// cast counts a node's vote. A node's first vote counts, and later only adds the results to it. One that does not come from
// the node it should come from does not count.
func (f *flight) cast(n *node, vote *dems.Vote, results []byte) {
	if !n.speaks(vote.Node) {
		return
	}
	digest := vote.Results
	if results != nil {
		digest = dems.DigestOf(results)
	}
	f.mu.Lock()
	at := slices.IndexFunc(f.ballots, func(b ballot) bool { return b.node == n })
	switch {
	case at < 0:
		f.ballots = append(f.ballots, ballot{n, digest, results})
	case f.ballots[at].results == nil && results != nil:
		f.ballots[at].digest, f.ballots[at].results = digest, results
	}
	f.mu.Unlock()
	f.signal()
}

// castReply counts a node's results. They speak for themselves: the digest is computed from them, not taken from the vote.
func (f *flight) castReply(n *node, reply *dems.BatchReply) {
	results := reply.Results
	if results == nil { // no results are wrong results, and not a vote that leaves them for later
		results = []byte{}
	}
	f.cast(n, &reply.Vote, results)
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

// tally counts the votes of the voters. The winner is not changed any more.
func (f *flight) tally(v *view) count {
	if len(v.voters) == 0 {
		return count{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	voted, best := 0, 0
	for i := range f.ballots {
		if !v.isVoter(f.ballots[i].node) {
			continue
		}
		voted++
		counted := f.agreement(v, f.ballots[i].digest)
		if best = max(best, counted.agreeing); best >= v.majority() {
			if counted.winner == nil {
				counted.missing = f.without(v, func(b *ballot) bool { return b.digest == f.ballots[i].digest })
			}
			return counted
		}
	}
	if best+len(v.voters)-voted >= v.majority() {
		return count{}
	}
	return count{split: true, missing: f.without(v, func(b *ballot) bool { return b.results == nil })}
}

// agreement counts the voters with a digest and finds one that has handed out its results. Callers hold mu.
func (f *flight) agreement(v *view, digest dems.Digest) (counted count) {
	for i := range f.ballots {
		if b := &f.ballots[i]; b.digest == digest && v.isVoter(b.node) {
			counted.agreeing++
			if b.results != nil && counted.winner == nil {
				found := *b
				counted.winner = &found
			}
		}
	}
	return counted
}

// without returns the voters whose ballots a condition selects. Callers hold mu.
func (f *flight) without(v *view, selects func(*ballot) bool) []*node {
	var nodes []*node
	for i := range f.ballots {
		if b := &f.ballots[i]; v.isVoter(b.node) && selects(b) {
			nodes = append(nodes, b.node)
		}
	}
	return nodes
}
