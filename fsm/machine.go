package fsm

import (
	"errors"
	"fmt"
	"slices"

	"dems"

	"github.com/tidwall/btree"
)

// Machine is the replicated state. The caller excludes Apply and Snapshot from everything else (a sync.RWMutex does);
// all other methods only read and may run concurrently with each other.
type Machine struct {
	cities       dems.Cities
	limits       limits
	index        uint64                       // last applied entry; during Apply, the one being applied
	clock        uint64                       // log time in Unix milliseconds: the largest time of any command so far
	lastBooking  uint64                       // number of the youngest booking; the numbers give the booking order
	states       []cityState                  // one for each of the cities, in their order
	customers    btree.Map[uint64, *customer] // by UserID.Order
	typeVersions [typeCount]uint64            // index of the last entry that touched any event of the type
	registry     registry
	sessions     sessionTable
	keys         keyTable
	cluster      cluster
	common       sum    // digest of what belongs to no city: registry, sessions, keys, cluster
	generation   uint64 // counts snapshots: what is of an older generation is shared with one
	failure      error  // the first broken invariant; the machine accepts nothing after it
	scratch      scratch
}

// typeCount is the length of arrays indexed by event type; element 0 is unused.
const typeCount = len(dems.EventTypes) + 1

// Applied is what one entry did. It belongs to the caller, who must not change Results: the machine keeps them.
type Applied struct {
	Kind           dems.EntryKind  // 0 of a configuration
	Session, Batch uint64          // BatchEntry only
	Commands       int             // BatchEntry only: how many commands it executed; 0 of one that was applied before
	Results        []byte          // BatchEntry only: dems.AppendResults of its results, in the order of its commands
	ResultDigest   dems.Digest     // dems.DigestOf(Results)
	StateDigest    dems.Digest     // of the whole state after the entry
	Records        []Record        // city log records that the entry produced, in order
	Refused        string          // all but batches: why the entry was refused; "" is accepted
	Incidents      []dems.Incident // that the entry brought about, in order
}

// Record is one line of a city log.
type Record struct {
	City   dems.City
	Number uint64 // counts the city's ordered records from 0
	Line   []byte // a JSON object and a line feed
}

// New returns the state before the first entry. The cities are part of it: all nodes of a cluster must have the same.
func New(cities dems.Cities) *Machine {
	m := &Machine{cities: slices.Clone(cities), limits: defaultLimits(), states: make([]cityState, len(cities))}
	for i := range m.states {
		m.states[i].city = cities[i].City
		m.states[i].seal()
	}
	return m
}

// ErrOutOfOrder is the cause when Apply is given an index that is not above the last one.
var ErrOutOfOrder = errors.New("entry out of order")

// ErrInvariant is the cause when Apply or CheckInvariants finds the state contradicting itself.
var ErrInvariant = errors.New("invariant broken")

// Apply decodes and applies one log entry, as dems.AppendEntry encodes it. Entries must come in increasing index. An
// error means that the entry cannot be decoded or that an invariant broke: the node must stop, and the state is
// undefined. A refused command is no error but a result.
//
// A batch that was applied before, and is still remembered, gives its stored results again and has no effect; one whose
// session is unknown, or that is older than what its session remembers, gives zero results and has no effect.
func (m *Machine) Apply(index uint64, data []byte) (Applied, error) {
	if err := m.expect(index); err != nil {
		return Applied{}, err
	}
	entry, err := dems.DecodeEntry(data)
	if err != nil {
		return Applied{}, fmt.Errorf("index %d: %w", index, err)
	}
	if entry.Kind == dems.RestoreEntry && entry.Origin != m.Origin() {
		return Applied{}, fmt.Errorf("index %d: %w: the log follows on %s, and this state is %s", index, ErrOrigin, entry.Origin, m.Origin())
	}
	m.index = index
	applied := Applied{Kind: entry.Kind}
	switch entry.Kind {
	case dems.BatchEntry:
		m.applyBatch(&entry.Batch, &applied)
	case dems.VerdictEntry:
		applied.Refused = m.applyVerdict(&entry.Verdict, &applied)
	case dems.IncidentEntry:
		applied.Refused = m.applyIncident(&entry.Incident, &applied)
	case dems.ReplacementEntry:
		applied.Refused = m.applyReplacement(&entry.Replacement, &applied)
	case dems.RestoreEntry:
		m.descend()
	default:
		applied.Refused = m.register(entry.Kind, &entry.Registration)
	}
	return m.finish(applied)
}

// expect tells whether the machine can apply an entry at an index.
func (m *Machine) expect(index uint64) error {
	if m.failure != nil {
		return m.failure
	}
	if index <= m.index {
		return fmt.Errorf("index %d after %d: %w", index, m.index, ErrOutOfOrder)
	}
	return nil
}

// finish brings the digest up to date after an entry.
func (m *Machine) finish(applied Applied) (Applied, error) {
	if m.failure != nil {
		return Applied{}, m.failure
	}
	for i := range m.states {
		if m.states[i].changed {
			m.states[i].seal()
		}
	}
	applied.StateDigest = m.Digest()
	return applied, nil
}

// fail notes a broken invariant. The entry goes on to its end, which keeps the rules free of impossible cases; Apply
// then returns the error instead of results.
func (m *Machine) fail(format string, arguments ...any) {
	if m.failure == nil {
		m.failure = fmt.Errorf("index %d: %w: %s", m.index, ErrInvariant, fmt.Sprintf(format, arguments...))
	}
}

// Index returns the index of the last applied entry, 0 before the first.
func (m *Machine) Index() uint64 { return m.index }

// Cities returns the cities. The caller must not change them.
func (m *Machine) Cities() dems.Cities { return m.cities }

// CityLog returns how many ordered records a city's log has, and the chain digest over them; zero for no city of ours.
func (m *Machine) CityLog(city dems.City) (records uint64, chain dems.Digest) {
	if state := m.state(city); state != nil {
		return state.records, state.chain
	}
	return 0, dems.Digest{}
}

// state returns the state of a city, or nil if there is no such city.
func (m *Machine) state(city dems.City) *cityState {
	if i := m.cities.Index(city); i >= 0 {
		return &m.states[i]
	}
	return nil
}
