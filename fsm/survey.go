package fsm

import (
	"fmt"
	"io"

	"dems"

	"github.com/tidwall/btree"
)

// Survey is what a snapshot is of, formed from its records.
type Survey struct {
	Origin dems.Origin // index and digest
	Logs   []CityLog   // in the order of the cities
}

// CityLog is what a state knows of the log of a city.
type CityLog struct {
	City    dems.City
	Records uint64      // how many ordered ones
	Chain   dems.Digest // over them
}

// Logs returns what the state knows of the cities' logs, in the order of the cities.
func (m *Machine) Logs() []CityLog {
	logs := make([]CityLog, len(m.states))
	for i := range m.states {
		logs[i] = CityLog{m.states[i].city, m.states[i].records, m.states[i].chain}
	}
	return logs
}

// SurveySnapshot reads a snapshot that WriteTo wrote, to its end, without making a machine of it: events, bookings and keys
// are looked at and forgotten, so that it takes a few megabytes of memory however large the state is. It checks the version,
// every checksum, the cities, every record by itself, and that the digest formed from the records is the one that the
// snapshot carries: what has the digest that correct nodes had is their state. What Restore checks beyond that, it leaves to
// Restore. The error wraps ErrSnapshot, or is the reader's.
func SurveySnapshot(r io.Reader, cities dems.Cities) (Survey, error) {
	s := &surveyor{snapshotReader: newSnapshotReader(r, cities), sums: make([]sum, len(cities))}
	s.take[eventBlock], s.take[customerBlock] = s.seeEventOrBooking, s.seeCustomer
	s.take[batchBlock], s.take[keyBlock] = s.seeBatch, s.seeKey
	carried, err := s.readAll()
	if err == nil {
		err = s.finish(carried)
	}
	if err != nil {
		return Survey{}, fmt.Errorf("survey: %w", err)
	}
	return Survey{dems.Origin{Index: s.machine.index, Digest: carried}, s.machine.Logs()}, nil
}

// surveyor adds up the hashes of records. Its machine holds only what is bounded: head, cities, sessions without their
// results, registry and cluster.
type surveyor struct {
	*snapshotReader
	sums   []sum                  // by city
	common sum                    // of sessions, batches and keys
	booked btree.Map[uint64, int] // by UserID.Order: bookings of customers whose own records are still to come
	last   uint64                 // UserID.Order of the last customer
	keys   int
}

// home returns the sum of a city of ours.
func (s *surveyor) home(city dems.City) *sum { return &s.sums[s.machine.cities.Index(city)] }

func (s *surveyor) seeEventOrBooking(d *dems.Decoder) error {
	if s.bookings > 0 {
		return s.seeBooking(d)
	}
	key, capacity, version, err := s.readEvent(d)
	if err == nil {
		s.home(key.ID.City).add(eventHash(key.Order(), capacity, uint32(s.bookings), version))
	}
	return err
}

func (s *surveyor) seeBooking(d *dems.Decoder) error {
	number, user, err := s.readBooking(d)
	if err != nil {
		return err
	}
	s.home(s.key.ID.City).add(bookingHash(s.key.Order(), number, user))
	s.home(user.City).add(indexHash(s.key.Order(), number, user))
	count, _ := s.booked.Get(user.Order())
	s.booked.Set(user.Order(), count+1)
	return nil
}

func (s *surveyor) seeCustomer(d *dems.Decoder) error {
	user, version, err := s.readCustomer(d)
	if err != nil {
		return err
	}
	if user.Order() <= s.last {
		return bad("%s does not stand in its place", user)
	}
	s.last = user.Order()
	count, _ := s.booked.Delete(user.Order())
	s.home(user.City).add(customerHash(user, count, version))
	return nil
}

func (s *surveyor) seeBatch(d *dems.Decoder) error {
	of, b, err := s.readBatch(d)
	if err != nil {
		return err
	}
	s.common.add(b.hash(of.id))
	b.results = nil
	*of.place(b.number) = b
	return nil
}

func (s *surveyor) seeKey(d *dems.Decoder) error {
	record, err := readKey(d)
	if err != nil {
		return err
	}
	if s.keys++; s.keys > s.machine.limits.keys {
		return bad("an idempotency key too many")
	}
	s.common.add(keyHash(record))
	return nil
}

// finish forms the digest and compares it with the one that the snapshot carries.
func (s *surveyor) finish(carried dems.Digest) error {
	if s.booked.Len() > 0 {
		return bad("%d customers are missing", s.booked.Len())
	}
	m, total := s.machine, s.common
	for i := range s.sums {
		total.addSum(s.sums[i])
		total.add(m.states[i].headHash())
	}
	for i := range m.sessions.open {
		total.add(m.sessions.open[i].hash())
	}
	total.addSum(m.registry.recompute())
	total.addSum(m.cluster.recompute())
	return compareDigests(m.headDigest(total), carried)
}
