package dems

import "time"

// What the cluster knows of its own members: who is wrong, what was done about it, and what happened.

// Condition is where a node stands with the cluster. It is replicated state: every node and every leader knows the same.
type Condition uint8

// The conditions, in the order in which a node that is convicted goes through them. Their numbers are part of the format of
// snapshots: append, never renumber.
const (
	Correct     Condition = iota // nothing is known against it
	Convicted                    // this incarnation has to leave the configuration
	Expelled                     // it has left the configuration; the next incarnation has to come back, emptied
	Rejoining                    // the next incarnation is a nonvoter and catches up
	Quarantined                  // convicted too often: it stays out until an operator replaces it by hand
	conditionCount
)

var conditionNames = [conditionCount]string{"correct", "convicted", "expelled", "rejoining", "quarantined"}

// String returns the condition's name.
func (c Condition) String() string {
	if c >= conditionCount {
		return "unknown"
	}
	return conditionNames[c]
}

// Standing is a node's condition.
type Standing struct {
	Node        NodeID
	Incarnation uint64 // the one that the condition is about: of Expelled, Rejoining and Quarantined the one to come
	Condition   Condition
	Since       uint64 // log index at which it came about
	ByHand      bool   // an operator asked for the replacement that is under way
}

// IncidentKind says what happened.
type IncidentKind uint8

// The kinds of incident. Their numbers are part of the format of entries and snapshots: append, never renumber.
const (
	AccusationIncident   IncidentKind = iota + 1 // a front end counted three wrong answers in a row
	VerdictIncident                              // a replica manager found a node wrong by its own records
	ConvictionIncident                           // a majority of the other members found it wrong
	RemovalIncident                              // it has left the configuration
	ReadditionIncident                           // its next incarnation is a voter
	QuarantineIncident                           // it was convicted too often and stays out
	SuspicionIncident                            // a node does not answer
	RecoveryIncident                             // it answers again
	LeaderChangeIncident                         // a node has become the leader
	NoMajorityIncident                           // the nodes disagreed and no answer had a majority
	incidentKindCount
)

var incidentNames = [incidentKindCount]string{
	"", "accusation", "verdict", "conviction", "removal", "readdition", "quarantine", "suspicion", "recovery",
	"leader-change", "no-majority",
}

// String returns the kind as clients see it.
func (k IncidentKind) String() string {
	if k == 0 || k >= incidentKindCount {
		return "unknown"
	}
	return incidentNames[k]
}

// MarshalText implements encoding.TextMarshaler.
func (k IncidentKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// IncidentKinds returns every kind, in the order of their numbers.
func IncidentKinds() []IncidentKind {
	all := make([]IncidentKind, 0, incidentKindCount-1)
	for kind := IncidentKind(1); kind < incidentKindCount; kind++ {
		all = append(all, kind)
	}
	return all
}

// Incident is something that happened to the cluster and that an operator may want to know. Incidents are replicated state.
type Incident struct {
	Sequence    uint64 // log index of the entry that brought it about; not part of entries
	Time        time.Time
	Kind        IncidentKind
	Node        NodeID // whom it is about; "" where nobody is named
	Incarnation uint64
	By          string // the node or front end that says so; "" where the cluster as a whole does
	Index       uint64 // log index of the evidence; 0 where there is none
	Expected    string // what the majority has, where there is evidence: at most MaxEvidenceBytes
	Answered    string // what the node has
	Detail      string // a sentence for people: at most MaxEvidenceBytes
}

// Verdict is what one replica manager finds of another node by its own records: at an index where a majority of the
// members agree, that node's vote was another one.
type Verdict struct {
	Node          NodeID // who was wrong
	Incarnation   uint64
	By            NodeID // who finds so
	ByIncarnation uint64
	Index         uint64 // log index at which it was wrong
	Expected      string // at most MaxEvidenceBytes
	Answered      string
	Time          time.Time
}

// Replacement asks for a node to be removed, emptied and added again, whatever is known against it. Of a node in quarantine
// it asks to be let in again.
type Replacement struct {
	Node        NodeID
	Incarnation uint64 // the one to remove or, of a node that is out already, the one to come
	By          string // the node or front end that asks
	Cause       string // a sentence: at most MaxEvidenceBytes
	Automatic   bool   // asked for by the cluster itself: it counts towards quarantine
	Time        time.Time
}

// ReportKind says what a front end reports.
type ReportKind uint8

// The kinds of report.
const (
	WrongAnswerReport ReportKind = 1 // a first or second wrong answer in a row
	AccusationReport  ReportKind = 2 // a third one
	NoMajorityReport  ReportKind = 3 // no answer had a majority
)

// Report is what a front end tells all replica managers. Nobody acts on its word alone: they look into their own records.
type Report struct {
	Kind        ReportKind
	Node        NodeID // not of NoMajorityReport
	Incarnation uint64
	Strikes     int      // wrong answers in a row
	Indexes     []uint64 // log entries on which the node voted wrongly, at most MaxReportIndexes, in order
	Expected    string   // of the last wrong answer, for people: at most MaxEvidenceBytes
	Answered    string
}

// Suspicion says that the leader of a term does not answer.
type Suspicion struct {
	Leader NodeID
	Term   uint64
}

// Opinion is what a replica manager thinks of a suspicion after it has looked for itself.
type Opinion struct {
	Agrees    bool   // the leader does not answer here either
	Term      uint64 // this node's current term
	LastTerm  uint64 // term of the last entry in this node's log
	LastIndex uint64 // its index: who has the newest log is best placed to lead
}
