package fsm

import (
	"errors"
	"io"

	"dems"
)

// Machine is the replicated state. The caller excludes Apply and Snapshot from everything else; all other methods only
// read and may run concurrently with each other.
type Machine struct {
	cities dems.Cities
}

// Applied is what one entry did.
type Applied struct {
	Kind           dems.EntryKind
	Session, Batch uint64
	Results        []byte
	ResultDigest   dems.Digest
	StateDigest    dems.Digest
	Records        []Record
	Refused        string
}

// Record is one line of a city log.
type Record struct {
	City   dems.City
	Number uint64
	Line   []byte
}

// Snapshot is the state at one index.
type Snapshot struct {
	machine *Machine
}

var errSkeleton = errors.New("fsm: not built yet")

func New(cities dems.Cities) *Machine { return &Machine{cities: cities} }

func (m *Machine) Apply(index uint64, data []byte) (Applied, error) { return Applied{}, errSkeleton }

func (m *Machine) Query(q *dems.Query) dems.Answer { return dems.Answer{} }

func (m *Machine) Batch(session, number uint64) (index uint64, results []byte, resultDigest dems.Digest, ok bool) {
	return 0, nil, dems.Digest{}, false
}

func (m *Machine) Index() uint64 { return 0 }

func (m *Machine) Digest() dems.Digest { return dems.Digest{} }

func (m *Machine) CityDigest(city dems.City) dems.Digest { return dems.Digest{} }

func (m *Machine) CityLog(city dems.City) (records uint64, chain dems.Digest) {
	return 0, dems.Digest{}
}

func ChainRecord(chain dems.Digest, line []byte) dems.Digest { return dems.Digest{} }

func (m *Machine) Registry() dems.Registry { return dems.Registry{Cities: m.cities} }

func (m *Machine) Cities() dems.Cities { return m.cities }

func (m *Machine) Recompute() dems.Digest { return dems.Digest{} }

func (m *Machine) CheckInvariants() error { return errSkeleton }

func (m *Machine) Snapshot() *Snapshot { return &Snapshot{m} }

func (s *Snapshot) WriteTo(w io.Writer) (int64, error) { return 0, errSkeleton }

func (s *Snapshot) Index() uint64 { return s.machine.Index() }

func (s *Snapshot) Digest() dems.Digest { return s.machine.Digest() }

func (s *Snapshot) CityLog(city dems.City) (uint64, dems.Digest) { return s.machine.CityLog(city) }

func (s *Snapshot) Recompute() dems.Digest { return s.machine.Recompute() }

func Restore(r io.Reader, cities dems.Cities) (*Machine, error) { return nil, errSkeleton }

func AppendRecord(dst []byte, command *dems.Command, result *dems.Result) []byte { return dst }
