package frontend

import (
	"cmp"
	"slices"
	"time"

	"dems"
)

// leaderMemory is how long a node that failed to lead is passed over while others claim to lead as well.
const leaderMemory = 5 * time.Second

// claim is what speaks for a node as the leader.
type claim struct {
	node   *node
	naming int    // voters that name it
	term   uint64 // in which they do
	passed bool   // it failed lately, and no majority names it
}

// electLeader returns the node that most voters name as the leader. One that no majority names may be wrong about itself:
// it is passed over for a while after it failed to lead, so that a single wrong node cannot hold up a cluster in which
// another is slow or dead. Of equals, the one that has lately led is preferred, then the higher term. Callers hold
// members.mu.
func electLeader(v *view, now time.Time) (*node, uint64) {
	electorate := v.electorate()
	var best claim
	for i, n := range electorate {
		leader := n.status.Leader
		repeated := slices.ContainsFunc(electorate[:i], func(earlier *node) bool {
			return v.present(earlier) && earlier.status.Leader == leader
		})
		if !v.present(n) || repeated {
			continue
		}
		candidate := claim{node: v.find(leader)}
		if candidate.node == nil {
			continue
		}
		candidate.naming, candidate.term = v.support(electorate, leader)
		failed := candidate.node.failed
		candidate.passed = candidate.naming <= len(electorate)/2 && !failed.IsZero() && now.Sub(failed) < leaderMemory
		if best.node == nil || candidate.better(&best) {
			best = candidate
		}
	}
	if best.naming <= len(electorate)/2 && slices.ContainsFunc(electorate, func(n *node) bool { return !n.polled }) {
		return nil, 0 // those who have not been heard yet may know better
	}
	return best.node, best.term
}

// better tells whether the claim is better than another.
func (c *claim) better(other *claim) bool {
	if c.passed != other.passed {
		return other.passed
	}
	if c.passed { // nobody is left but those who failed: the one whose failure is longest ago is tried next
		return c.node.failed.Before(other.node.failed)
	}
	if c.naming != other.naming {
		return c.naming > other.naming
	}
	if proven := c.node.proven.Load(); proven != other.node.proven.Load() {
		return proven
	}
	return cmp.Compare(c.term, other.term) > 0
}

// support returns how many of the electorate name a leader, and in which term: the middle one of those that they say, so
// that one wrong node among three cannot make it up.
func (v *view) support(electorate []*node, leader dems.NodeID) (naming int, term uint64) {
	terms := make([]uint64, 0, len(electorate))
	for _, n := range electorate {
		if v.present(n) && n.status.Leader == leader {
			terms = append(terms, n.status.Term)
		}
	}
	slices.Sort(terms)
	return len(terms), terms[(len(terms)-1)/2]
}
