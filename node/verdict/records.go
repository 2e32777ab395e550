package verdict

import (
	"cmp"
	"maps"
	"slices"

	"dems"
)

// Window is how many of the last log indexes votes are kept for. It is as much as a node keeps of its own: who is further
// behind is late, and what it votes then is compared by the majority's digests of today.
const Window = 4096

// maxVotes is how many nodes' votes are kept at one index: more than any cluster has members.
const maxVotes = 64

// Runs is how many wrong votes in a row on batches speak for themselves, without a front end's accusation.
const Runs = 3

// Finding says that a node's vote at an index was not the majority's.
type Finding struct {
	Node        dems.NodeID
	Incarnation uint64
	Index       uint64
	WrongState  bool // else its results were wrong
	Expected    dems.Digest
	Answered    dems.Digest
	Run         int // wrong votes in a row on batches, this one included, as far as they are decided; 0 if WrongState
}

// Records are the votes of the members at the recent indexes. It is not safe for concurrent use.
type Records struct {
	voters map[dems.NodeID]uint64 // incarnations
	slots  []slot                 // index % Window holds the votes at that index
	runs   map[dems.NodeID]*run
}

// slot is the votes at one index, at most one of each node.
type slot struct {
	index uint64
	votes []vote
}

type vote struct {
	node           dems.NodeID
	incarnation    uint64
	results, state dems.Digest
	batch          bool // it has results
	judged         bool // whether its results count for the run
	wrongResults   bool
	wrongState     bool
}

// setState takes in the state that a node found when it looked again: what was wrong may be right by now.
func (v *vote) setState(state dems.Digest) {
	v.wrongState = v.wrongState && v.state == state
	v.state = state
}

// run counts wrong votes in a row.
type run struct {
	index uint64 // of the last vote that counted
	wrong int
}

// NewRecords returns empty records. Nobody is a voter yet.
func NewRecords() *Records {
	return &Records{slots: make([]slot, Window), runs: make(map[dems.NodeID]*run)}
}

// SetVoters tells whose votes count from now on, the voters of the newest applied configuration, and returns what the votes
// that are there show by that. A vote may come before it is known here that it counts.
func (r *Records) SetVoters(members []dems.Member) []Finding {
	voters := make(map[dems.NodeID]uint64, len(members))
	for _, member := range members {
		if member.Suffrage == dems.Voter {
			voters[member.ID] = member.Incarnation
		}
	}
	if maps.Equal(voters, r.voters) {
		return nil
	}
	for id, incarnation := range r.voters {
		if voters[id] != incarnation {
			delete(r.runs, id)
		}
	}
	r.voters = voters
	var findings []Finding
	for _, s := range r.inOrder() {
		findings = append(findings, r.judge(s)...)
	}
	return findings
}

// inOrder returns the slots that hold votes, by index.
func (r *Records) inOrder() []*slot {
	var slots []*slot
	for i := range r.slots {
		if len(r.slots[i].votes) > 0 {
			slots = append(slots, &r.slots[i])
		}
	}
	slices.SortFunc(slots, func(a, b *slot) int { return cmp.Compare(a.index, b.index) })
	return slots
}

// counts tells whether a vote is a voter's.
func (r *Records) counts(v *vote) bool {
	return r.voters[v.node] == v.incarnation && v.incarnation != 0
}

func (r *Records) majority() int { return len(r.voters)/2 + 1 }

// Add takes in a vote and returns what it shows: of the voter itself and, if it made a majority, of those that voted
// otherwise before. A later vote of a node at the same index counts in place of its earlier one: it has looked again. The
// same is found once only.
func (r *Records) Add(v *dems.Vote) []Finding {
	if v.State == (dems.Digest{}) {
		return nil
	}
	s := &r.slots[v.Index%Window]
	switch {
	case s.index > v.Index:
		return nil // too late
	case s.index < v.Index:
		s.index, s.votes = v.Index, s.votes[:0]
	}
	batch := v.Session != 0
	at := slices.IndexFunc(s.votes, func(other vote) bool { return other.node == v.Node })
	switch {
	case at < 0 && len(s.votes) == maxVotes, at >= 0 && s.votes[at].incarnation > v.Incarnation:
		return nil
	case at < 0:
		s.votes = append(s.votes, vote{node: v.Node, incarnation: v.Incarnation, results: v.Results, state: v.State, batch: batch})
	case s.votes[at].incarnation < v.Incarnation:
		s.votes[at] = vote{node: v.Node, incarnation: v.Incarnation, results: v.Results, state: v.State, batch: batch}
	case batch:
		s.votes[at].results, s.votes[at].batch = v.Results, true
		s.votes[at].setState(v.State)
	default:
		s.votes[at].setState(v.State)
	}
	if len(s.votes) < r.majority() {
		return nil
	}
	return r.judge(s)
}

// judge compares the votes at an index.
func (r *Records) judge(s *slot) []Finding {
	var findings []Finding
	if state, ok := r.agreed(s, func(v *vote) (dems.Digest, bool) { return v.state, true }); ok {
		for i := range s.votes {
			v := &s.votes[i]
			if r.counts(v) && v.state != state && !v.wrongState {
				v.wrongState = true
				findings = append(findings, Finding{
					Node: v.node, Incarnation: v.incarnation, Index: s.index, WrongState: true, Expected: state, Answered: v.state,
				})
			}
		}
	}
	if results, ok := r.agreed(s, func(v *vote) (dems.Digest, bool) { return v.results, v.batch }); ok {
		for i := range s.votes {
			v := &s.votes[i]
			if !v.batch || !r.counts(v) {
				continue
			}
			wrong := v.results != results
			known := v.judged && v.wrongResults == wrong
			v.judged, v.wrongResults = true, wrong
			if known {
				continue
			}
			length := r.count(v.node, s.index, wrong)
			if wrong {
				findings = append(findings, Finding{
					Node: v.node, Incarnation: v.incarnation, Index: s.index, Expected: results, Answered: v.results, Run: length,
				})
			}
		}
	}
	return findings
}

// agreed returns the digest that a majority of the voters has.
func (r *Records) agreed(s *slot, of func(*vote) (dems.Digest, bool)) (dems.Digest, bool) {
	for i := range s.votes {
		digest, there := of(&s.votes[i])
		if !there || !r.counts(&s.votes[i]) {
			continue
		}
		agreeing := 0
		for j := range s.votes {
			if other, there := of(&s.votes[j]); there && other == digest && r.counts(&s.votes[j]) {
				agreeing++
			}
		}
		if agreeing >= r.majority() {
			return digest, true
		}
	}
	return dems.Digest{}, false
}

// count notes whether a vote was wrong and returns how many in a row have been. Votes that are judged out of order, because
// the majority came late, do not count: they can only end a run, never make one.
func (r *Records) count(id dems.NodeID, index uint64, wrong bool) int {
	counted := r.runs[id]
	if counted == nil {
		counted = &run{}
		r.runs[id] = counted
	}
	switch {
	case !wrong:
		counted.wrong = 0
		counted.index = max(counted.index, index)
	case index > counted.index:
		counted.wrong++
		counted.index = index
	}
	return counted.wrong
}

// WrongAt tells whether a node's vote at an index is known not to be the majority's.
func (r *Records) WrongAt(id dems.NodeID, incarnation, index uint64) (Finding, bool) {
	s := &r.slots[index%Window]
	if s.index != index || r.voters[id] != incarnation {
		return Finding{}, false
	}
	for i := range s.votes {
		v := &s.votes[i]
		if v.node != id || v.incarnation != incarnation {
			continue
		}
		finding := Finding{Node: id, Incarnation: incarnation, Index: index, WrongState: v.wrongState}
		if v.wrongState {
			finding.Expected, _ = r.agreed(s, func(v *vote) (dems.Digest, bool) { return v.state, true })
			finding.Answered = v.state
			return finding, true
		}
		if !v.wrongResults {
			return Finding{}, false // at once: whoever accuses the innocent makes everybody ask this all the time
		}
		finding.Expected, _ = r.agreed(s, func(v *vote) (dems.Digest, bool) { return v.results, v.batch })
		finding.Answered = v.results
		return finding, true
	}
	return Finding{}, false
}
