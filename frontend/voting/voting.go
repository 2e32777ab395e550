// Package voting decides what a majority of the nodes got for a batch of requests, and keeps the score of nodes that got
// something else.
//
// It is pure: no goroutines, no locks, no clock. Whoever uses it says what time it is, and serialises the calls. A front end
// and a simulation of front ends decide by the same code.
package voting

import (
	"slices"

	"dems"
	"dems/internal/planted"
)

// Voter is a node whose ballots count.
type Voter struct {
	Node        dems.NodeID
	Incarnation uint64 // 0: not known; ballots of any count
}

// Voters are all nodes whose ballots count. Without voters nothing is decided.
type Voters []Voter

// Majority returns how many equal ballots decide.
func (v Voters) Majority() int { return len(v)/2 + 1 }

// Counts tells whether the ballots of that life of a node count.
func (v Voters) Counts(node dems.NodeID, incarnation uint64) bool {
	for i := range v {
		if v[i].Node == node {
			return v[i].Incarnation == 0 || v[i].Incarnation == incarnation
		}
	}
	return false
}

// Ballot is what one node got for one log entry.
type Ballot struct {
	Node         dems.NodeID
	Incarnation  uint64
	Index        uint64      // of the entry
	Results      dems.Digest // of the encoded results
	State        dems.Digest // of the state after the entry; zero where the node does not know it any more
	Bytes        []byte      // the encoded results; nil while only their digest is known
	Contradicted bool        // the node said two different things of the same entry
}

// NewBallot returns the ballot that a vote is, with the results that came with it: nil where none came. Results speak for
// themselves: the digest is computed from them, and a vote for other ones contradicts them.
func NewBallot(vote *dems.Vote, results []byte) Ballot {
	b := Ballot{
		Node: vote.Node, Incarnation: vote.Incarnation, Index: vote.Index, Results: vote.Results, State: vote.State, Bytes: results,
	}
	if results != nil {
		b.Results = dems.DigestOf(results)
		b.Contradicted = b.Results != vote.Results
	}
	return b
}

// add takes in what the node said later about the same entry. Of two digests the first counts, and of a digest and results
// the results do.
func (b *Ballot) add(later *Ballot) {
	b.Contradicted = b.Contradicted || later.Contradicted || b.Results != later.Results
	switch {
	case b.State == dems.Digest{}:
		b.State = later.State
	case later.State != dems.Digest{} && later.State != b.State:
		b.Contradicted = true
	}
	if b.Bytes == nil && later.Bytes != nil {
		b.Results, b.Bytes = later.Results, later.Bytes
	}
}

// agrees tells whether another ballot on the same entry supports this one. A state that is not known agrees with any, but
// has no supporters that know theirs: they may differ.
func (b *Ballot) agrees(other *Ballot) bool {
	return other.Results == b.Results && (other.State == b.State || other.State == dems.Digest{})
}

// mostBallots is how many ballots of one node a box holds. A batch that is proposed several times is voted on several times;
// a node that makes up entries fills its own share only.
const mostBallots = 8

// Box holds the ballots on one batch. A batch that was proposed twice stands at two indexes of the log; the ballots on each
// are compared among themselves, for the state is another one. The zero Box is ready to use.
type Box struct {
	ballots []Ballot
}

// Cast puts a ballot in. A node's first one on an entry counts; what it says later of the same entry adds the results or the
// state to it, or contradicts it.
func (b *Box) Cast(ballot Ballot) {
	cast := 0
	for i := range b.ballots {
		held := &b.ballots[i]
		if held.Node != ballot.Node || held.Incarnation != ballot.Incarnation {
			continue
		}
		if held.Index == ballot.Index {
			held.add(&ballot)
			return
		}
		cast++
	}
	if cast >= mostBallots {
		return
	}
	if b.ballots == nil {
		b.ballots = make([]Ballot, 0, 4)
	}
	b.ballots = append(b.ballots, ballot)
}

// Ballots returns all ballots in the order in which they were cast. They belong to the box.
func (b *Box) Ballots() []Ballot { return b.ballots }

// First returns the results that came first, whosever they are; nil while there are none.
func (b *Box) First() []byte {
	for i := range b.ballots {
		if b.ballots[i].Bytes != nil {
			return b.ballots[i].Bytes
		}
	}
	return nil
}

// Count is where the vote stands.
type Count struct {
	Won       bool // a majority agrees, and its results are there
	Winner    Ballot
	Agreeing  int           // voters that agree, where they are a majority
	Missing   []dems.NodeID // whose results are needed to go on: one of the majority's or, of a split vote, all
	Split     bool          // no entry can get a majority any more
	Scattered bool          // every voter has voted, on different entries: a majority can come only from voting again
}

// Tally counts the ballots of the voters.
func (b *Box) Tally(voters Voters) Count {
	var room [2 * mostBallots]*Ballot
	counting := b.counting(voters, room[:0])
	var best *Ballot
	most, open := 0, false
	for _, candidate := range counting {
		agreeing, there := support(counting, candidate)
		first := most >= voters.Majority() && agreeing >= voters.Majority() && candidate.Index < best.Index
		if agreeing > most && (most < voters.Majority() || candidate.Index == best.Index) || first {
			best, most = candidate, agreeing // of several entries that a majority agrees on, the first one was applied
		}
		open = open || agreeing+len(voters)-there >= voters.Majority()
	}
	switch {
	case best == nil:
		return Count{}
	case most >= voters.Majority():
		return won(counting, best, most)
	case !open:
		return Count{Split: true, Missing: undisclosed(counting, voters)}
	}
	return Count{Scattered: voted(counting) == len(voters)}
}

// counting appends the ballots that count to dst.
func (b *Box) counting(voters Voters, dst []*Ballot) []*Ballot {
	for i := range b.ballots {
		if voters.Counts(b.ballots[i].Node, b.ballots[i].Incarnation) {
			dst = append(dst, &b.ballots[i])
		}
	}
	if planted.Has(planted.DoubleVote) && len(dst) > 0 {
		dst = append(dst, dst[0])
	}
	return dst
}

// support returns how many ballots agree with one, and how many there are on its entry.
func support(counting []*Ballot, candidate *Ballot) (agreeing, there int) {
	for _, other := range counting {
		if other.Index != candidate.Index {
			continue
		}
		there++
		if candidate.agrees(other) {
			agreeing++
		}
	}
	return agreeing, there
}

// won returns the count of a vote that a majority has decided.
func won(counting []*Ballot, best *Ballot, agreeing int) Count {
	if results := disclosed(counting, best); results != nil {
		winner := *best
		winner.Bytes = results
		return Count{Won: true, Winner: winner, Agreeing: agreeing}
	}
	count := Count{Agreeing: agreeing}
	for _, other := range counting {
		if other.Index == best.Index && best.agrees(other) {
			count.Missing = append(count.Missing, other.Node)
		}
	}
	return count
}

// disclosed returns the results that a ballot is for, whichever voter handed them out and for whichever entry: nodes hand out
// what they got for the last one, and equal digests are equal results. Nil where nobody has.
func disclosed(counting []*Ballot, ballot *Ballot) []byte {
	if ballot.Bytes != nil {
		return ballot.Bytes
	}
	for _, other := range counting {
		if other.Bytes != nil && other.Results == ballot.Results {
			return other.Bytes
		}
	}
	return nil
}

// undisclosed returns who has not handed out the results that a decision command by command needs. Without a majority for
// one state there is no such decision.
func undisclosed(counting []*Ballot, voters Voters) []dems.NodeID {
	index := decisive(counting)
	state, ok := stateOf(counting, index, voters)
	if !ok {
		return nil
	}
	var nodes []dems.NodeID
	for _, c := range counting {
		if c.Index == index && disclosed(counting, c) == nil && (c.State == state || c.State == dems.Digest{}) {
			nodes = append(nodes, c.Node)
		}
	}
	return nodes
}

// voted returns how many voters have cast a ballot.
func voted(counting []*Ballot) int {
	number := 0
	for i, b := range counting {
		if !slices.ContainsFunc(counting[:i], func(earlier *Ballot) bool { return earlier.Node == b.Node }) {
			number++
		}
	}
	return number
}

// decisive returns the index with the most ballots, of several the lowest: where a decision is to be looked for.
func decisive(counting []*Ballot) uint64 {
	index, most := uint64(0), 0
	for _, b := range counting {
		if _, there := support(counting, b); there > most || there == most && b.Index < index {
			index, most = b.Index, there
		}
	}
	return index
}

// stateOf returns the state that a majority of the voters has after an entry, or does not know any more. Where nobody knows
// it, it is zero.
func stateOf(counting []*Ballot, index uint64, voters Voters) (dems.Digest, bool) {
	unknown := 0
	for _, b := range counting {
		if b.Index == index && b.State == (dems.Digest{}) {
			unknown++
		}
	}
	best, most := dems.Digest{}, 0
	for _, b := range counting {
		if b.Index != index || b.State == (dems.Digest{}) {
			continue
		}
		same := 0
		for _, other := range counting {
			if other.Index == index && other.State == b.State {
				same++
			}
		}
		if same > most {
			best, most = b.State, same
		}
	}
	return best, most+unknown >= voters.Majority()
}

// Silent returns the voters that have not voted on the entry that most voted on.
func (b *Box) Silent(voters Voters) []dems.NodeID {
	counting := b.counting(voters, nil)
	index := decisive(counting)
	var nodes []dems.NodeID
	for _, voter := range voters {
		if !slices.ContainsFunc(counting, func(c *Ballot) bool { return c.Node == voter.Node && c.Index == index }) {
			nodes = append(nodes, voter.Node)
		}
	}
	return nodes
}
