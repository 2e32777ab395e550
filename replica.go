package dems

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// NodeID names a node, for example n1: 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter.
type NodeID string

// ValidName tells whether a node's or a front end's ID is well-formed. IDs stand in certificates, paths and logs.
func ValidName(name string) bool {
	for i := range len(name) {
		letter := name[i] >= 'a' && name[i] <= 'z'
		other := name[i] >= '0' && name[i] <= '9' || name[i] == '-'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 32
}

// Digest is a 128-bit digest. Two correct nodes have the same digest of the same thing.
type Digest [16]byte

// String returns 32 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// EntryKind says what a log entry carries.
type EntryKind uint8

// The kinds of log entry. Their numbers are part of the format: append, never renumber.
const (
	BatchEntry            EntryKind = 1 // commands of clients
	RegisterNodeEntry     EntryKind = 2
	RegisterFrontEndEntry EntryKind = 3 // also opens the front end's session
	VerdictEntry          EntryKind = 4
	IncidentEntry         EntryKind = 5
	ReplacementEntry      EntryKind = 6
	RestoreEntry          EntryKind = 7 // the first entry of a cluster that was restored from a backup; nobody proposes it
)

// Entry is one entry of the replicated log. Exactly the field that Kind names is used.
type Entry struct {
	Kind         EntryKind
	Batch        Batch
	Registration Registration
	Verdict      Verdict
	Incident     Incident
	Replacement  Replacement
	Origin       Origin // RestoreEntry: the backup
}

// Batch is the commands that one front end proposes together. Session and Number identify it: proposed twice, it is
// applied once.
type Batch struct {
	Session  uint64 // chosen at random by the front end when it starts; never 0
	Number   uint64 // counts the session's batches, from 1
	Commands []Command
}

// Registration tells where a node or a front end is.
type Registration struct {
	ID          string    `json:"id"`
	Address     string    `json:"address"` // of a node HOST:PORT (UDP), of a front end its URL
	Version     string    `json:"version"`
	Time        time.Time `json:"registered"`            // UTC, to the millisecond
	Incarnation uint64    `json:"incarnation,omitempty"` // nodes only
	Session     uint64    `json:"-"`                     // front ends only
	Cities      string    `json:"-"`                     // nodes only: what the node was configured with, as Cities.String
}

// Registry is what the central repository knows.
type Registry struct {
	Cities    Cities         `json:"cities"`
	Nodes     []Registration `json:"nodes"`
	FrontEnds []Registration `json:"frontEnds"`
}

// Vote is what one node got for one entry. Entries other than batches are voted on, too, as session 0 and batch 0, a front
// end's registration as batch 0 of its session: their results are empty, their state counts.
type Vote struct {
	Node        NodeID
	Incarnation uint64
	Index       uint64 // log index of the entry
	Session     uint64
	Batch       uint64
	Results     Digest // of the encoded results
	State       Digest // of the whole state after the entry; zero where it is not known any more
}

// BatchReply is one node's results for one batch, with its vote.
type BatchReply struct {
	Vote    Vote
	Results []byte // encoded by AppendResults
}

// QueryKind says what a query asks for.
type QueryKind uint8

// The queries.
const (
	OperationQuery QueryKind = 1 // a reading operation: the command says which
	RegistryQuery  QueryKind = 2
	IncidentsQuery QueryKind = 3
)

// Query is one read.
type Query struct {
	Kind    QueryKind
	Log     bool    // whether the node records the operation in its city logs: true the first time it is asked
	Command Command // OperationQuery only; must not mutate
	From    uint64  // IncidentsQuery only: the smallest sequence that is asked for
}

// QueryBatch is the reads that one front end sends a node together.
type QueryBatch struct {
	MinIndex uint64 // the node waits until it has applied this index
	Queries  []Query
}

// Answer is a node's answer to one query. Correct nodes with equal versions give equal results.
type Answer struct {
	Version uint64 // index of the last entry that touched what the answer depends on
	Result  []byte // encoded by AppendResults (one result), AppendRegistry or AppendIncidents, as the query's kind has it
}

// QueryReply holds an answer for each query of a batch, in order.
type QueryReply struct {
	Node        NodeID
	Incarnation uint64
	Applied     uint64 // index at which every answer holds
	Answers     []Answer
}

// Suffrage tells whether a member's vote counts.
type Suffrage string

// The suffrages.
const (
	Voter    Suffrage = "voter"
	Nonvoter Suffrage = "nonvoter"
	None     Suffrage = "none"
)

// Member is a node in a cluster's configuration.
type Member struct {
	ID          NodeID
	Incarnation uint64
	Address     string // HOST:PORT (UDP)
	Suffrage    Suffrage
}

// NodeStatus is what a node says of itself. It is one node's word: nothing that a client relies on rests on it alone.
type NodeStatus struct {
	ID            NodeID
	Incarnation   uint64
	Address       string
	Version       string
	Fresh         bool   // has no log and no snapshot yet, or only what it was given from a backup
	Ready         bool   // answers reads: it has caught up with what it knew before it started
	Leader        NodeID // "" where none is known
	Term          uint64
	Applied       uint64
	Digest        Digest // of the state at Applied
	Configuration uint64 // index of the configuration
	Members       []Member
	Standings     []Standing // as of Applied, in the order of the nodes' IDs
	Origin        Origin     // the backup that its cluster, or the one to come, was restored from
}

// CityLogPage is a run of ordered records of one city's log.
type CityLogPage struct {
	First   uint64 // number of the first record of the page, counted from 0
	Total   uint64 // how many ordered records the city's log has on this node
	Records []byte // whole lines
}

// ReplicaErrorKind says what is known when a node did not do what it was asked.
type ReplicaErrorKind uint8

// The kinds, as an allow-list: what is not certainly unapplied is Unknown.
const (
	UnknownOutcome ReplicaErrorKind = iota // it may still happen, or have happened
	NotLeader                              // certainly not applied; Leader says who may be asked
	NotApplied                             // certainly not applied: not sent, queue full, shutting down
	BadRequest                             // certainly not applied, and it never will be
	NotReady                               // certainly not answered: the node has still to catch up
)

var replicaErrorNames = [...]string{"outcome unknown", "not the leader", "not applied", "bad request", "not ready"}

// ReplicaError is why a node did not do what it was asked.
type ReplicaError struct {
	Kind   ReplicaErrorKind
	Leader NodeID // NotLeader only; "" where none is known
	Err    error  // the cause; may be nil
}

// Error implements error.
func (e *ReplicaError) Error() string {
	text := "replica: unknown kind of error"
	if int(e.Kind) < len(replicaErrorNames) {
		text = "replica: " + replicaErrorNames[e.Kind]
	}
	if e.Leader != "" {
		text += fmt.Sprintf(" (leader %s)", e.Leader)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *ReplicaError) Unwrap() error { return e.Err }

// DigestOf returns the digest of encoded results, as nodes vote with it: the first half of their SHA-256. A front end
// computes it again from the results it was given, so a node cannot vote with one result and hand out another.
func DigestOf(results []byte) Digest {
	sum := sha256.Sum256(results)
	return Digest(sum[:len(Digest{})])
}
