package voting

import (
	"slices"
	"strings"
	"time"

	"dems"
)

const (
	// Enough is how many wrong answers in a row are an accusation.
	Enough = 3
	// AccusationPause is the least time between two accusations of a node that stays wrong.
	AccusationPause = 3 * time.Second
	// ProofTime is how long after an accusation that named no log entry one may still be added to it, whatever the node has
	// answered since.
	ProofTime = 10 * time.Second
)

// Evidence is what is known of a wrong answer.
type Evidence struct {
	Index              uint64 // of a log entry on which the node voted wrongly; 0 where there is none
	Expected, Answered string // for people
}

// Strikes counts, for each node, the client requests in a row that it answered wrongly. Every incarnation begins with none.
// The zero Strikes is ready to use.
type Strikes struct {
	rows     map[dems.NodeID]*row
	unproven map[dems.NodeID]*row // rows that ended in a right answer after an accusation that named no entry
}

// row is the wrong answers of a node since its last right one.
type row struct {
	incarnation uint64
	wrong       int
	last        Evidence
	indexes     []uint64  // in order, the newest MaxReportIndexes
	accused     time.Time // zero: not yet
	bare        bool      // it was accused without an index
}

// Right takes in that a node answered a request rightly. It ends the row of wrong ones; false where there was none.
func (s *Strikes) Right(node dems.NodeID, incarnation uint64) bool {
	r := s.rows[node]
	if r == nil || incarnation < r.incarnation {
		return false
	}
	delete(s.rows, node)
	if r.bare { // the proof is on its way through the log
		if s.unproven == nil {
			s.unproven = map[dems.NodeID]*row{}
		}
		s.unproven[node] = r
	}
	return true
}

// Wrong takes in that a node answered a request wrongly, and returns what is to be reported, if anything: a first and second
// wrong answer in a row each, the third as an accusation, which is repeated while the node stays wrong.
func (s *Strikes) Wrong(node dems.NodeID, incarnation uint64, evidence Evidence, now time.Time) (dems.Report, bool) {
	r := s.rows[node]
	switch {
	case r == nil || r.incarnation < incarnation:
		if s.rows == nil {
			s.rows = map[dems.NodeID]*row{}
		}
		r = &row{incarnation: incarnation}
		s.rows[node] = r
	case r.incarnation > incarnation: // the word of a life that is over
		return dems.Report{}, false
	}
	r.wrong++
	r.last = evidence
	r.prove(evidence.Index)
	if r.wrong < Enough {
		return r.report(node, dems.WrongAnswerReport), true
	}
	return r.accuse(node, now)
}

// Prove adds a log entry on which a node voted wrongly to the wrong answers that it gave already, and returns an accusation
// where one is due that could not name an entry before.
func (s *Strikes) Prove(node dems.NodeID, incarnation, index uint64, now time.Time) (dems.Report, bool) {
	if r := s.rows[node]; r != nil && r.incarnation == incarnation {
		r.prove(index)
		if r.wrong < Enough {
			return dems.Report{}, false
		}
		return r.accuse(node, now)
	}
	r := s.unproven[node]
	delete(s.unproven, node)
	if r == nil || index == 0 || r.incarnation != incarnation || now.Sub(r.accused) > ProofTime {
		return dems.Report{}, false
	}
	r.prove(index)
	return r.accuse(node, now)
}

// Of returns how many wrong answers in a row that life of a node has given.
func (s *Strikes) Of(node dems.NodeID, incarnation uint64) int {
	if r := s.rows[node]; r != nil && r.incarnation == incarnation {
		return r.wrong
	}
	return 0
}

// Any returns how many nodes have given a wrong answer and no right one since.
func (s *Strikes) Any() int { return len(s.rows) }

// prove adds an index to the evidence.
func (r *row) prove(index uint64) {
	at, found := slices.BinarySearch(r.indexes, index)
	if found || index == 0 {
		return
	}
	r.indexes = slices.Insert(r.indexes, at, index)
	if len(r.indexes) > dems.MaxReportIndexes {
		r.indexes = slices.Delete(r.indexes, 0, 1)
	}
}

// accuse returns an accusation if one is due: the first one, the first one that names an entry, and later ones in time.
func (r *row) accuse(node dems.NodeID, now time.Time) (dems.Report, bool) {
	proven := r.bare && len(r.indexes) > 0
	if !r.accused.IsZero() && !proven && now.Sub(r.accused) < AccusationPause {
		return dems.Report{}, false
	}
	r.accused, r.bare = now, len(r.indexes) == 0
	return r.report(node, dems.AccusationReport), true
}

func (r *row) report(node dems.NodeID, kind dems.ReportKind) dems.Report {
	return dems.Report{
		Kind: kind, Node: node, Incarnation: r.incarnation, Strikes: r.wrong, Indexes: slices.Clone(r.indexes),
		Expected: cut(r.last.Expected), Answered: cut(r.last.Answered),
	}
}

// cut shortens a text to what a report may carry.
func cut(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), dems.MaxEvidenceBytes)], "")
}
