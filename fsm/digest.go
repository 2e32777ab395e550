package fsm

import (
	"encoding/binary"
	"math/bits"

	"dems"

	"github.com/zeebo/xxh3"
)

// The digest of the state is the hash of a few numbers (the head) and of the sum, modulo 2^128, of a hash of each record.
// A change of one record takes its old hash out of the sum and puts its new one in, so the digest costs the same however
// large the state is; Recompute forms it again from the records. The hash guards against failures, not against somebody
// who constructs collisions: all nodes are given the same commands.

// hash is the hash of one record.
type hash = xxh3.Uint128

// sum is a sum of hashes modulo 2^128.
type sum struct{ high, low uint64 }

func (s *sum) add(h hash) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, h.Lo, 0)
	s.high, _ = bits.Add64(s.high, h.Hi, carry)
}

func (s *sum) remove(h hash) {
	var borrow uint64
	s.low, borrow = bits.Sub64(s.low, h.Lo, 0)
	s.high, _ = bits.Sub64(s.high, h.Hi, borrow)
}

func (s *sum) addSum(other sum) { s.add(hash{Hi: other.high, Lo: other.low}) }

// Seeds: a record of one kind never hashes like one of another. They are part of what a digest is: never change them.
const (
	eventSeed uint64 = iota + 1
	bookingSeed
	indexSeed
	customerSeed
	cityHeadSeed
	keySeed
	sessionSeed
	batchSeed
	nodeSeed
	frontEndSeed
	headSeed
	chainSeed
	memberSeed
	standingSeed
	verdictSeed
	incidentSeed
)

// hashOf hashes a record of numbers. It is for at most ten numbers and keeps them off the heap.
func hashOf(seed uint64, numbers ...uint64) hash {
	var buffer [80]byte
	record := buffer[:0]
	for _, number := range numbers {
		record = binary.LittleEndian.AppendUint64(record, number)
	}
	return xxh3.Hash128Seed(record, seed)
}

func (e *event) hash() hash { return eventHash(e.key.Order(), e.capacity, e.booked(), e.version) }

func eventHash(order uint64, capacity, booked uint32, version uint64) hash {
	return hashOf(eventSeed, order, uint64(capacity)<<32|uint64(booked), version)
}

func (c *customer) hash(user dems.UserID) hash {
	return customerHash(user, c.bookings.Len(), c.version)
}

func customerHash(user dems.UserID, bookings int, version uint64) hash {
	return hashOf(customerSeed, user.Order(), uint64(bookings), version)
}

func bookingHash(eventOrder, number uint64, user dems.UserID) hash {
	return hashOf(bookingSeed, eventOrder, number, user.Order())
}

// indexHash is that of a booking as the customer index holds it: damage to the index shows in the digest, too.
func indexHash(eventOrder, number uint64, user dems.UserID) hash {
	return hashOf(indexSeed, eventOrder, number, user.Order())
}

func (c *cityState) headHash() hash {
	return hashOf(cityHeadSeed, dems.UserID{City: c.city}.Order(), c.membership[1], c.membership[2], c.membership[3],
		c.records, binary.LittleEndian.Uint64(c.chain[:8]), binary.LittleEndian.Uint64(c.chain[8:]))
}

// seal brings the head into the city's sum.
func (c *cityState) seal() {
	c.sum.remove(c.head)
	c.head = c.headHash()
	c.sum.add(c.head)
	c.changed = false
}

// Digest returns the digest of the whole state. It costs about as much as one hash for each city.
func (m *Machine) Digest() dems.Digest {
	total := m.common
	for i := range m.states {
		total.addSum(m.states[i].sum)
	}
	return m.headDigest(total)
}

func (m *Machine) headDigest(total sum) dems.Digest {
	return dems.Digest(hashOf(headSeed, m.index, m.clock, m.lastBooking, m.typeVersions[1], m.typeVersions[2],
		m.typeVersions[3], m.registry.version, m.cluster.time, total.high, total.low).Bytes())
}

// CityDigest returns the digest of what belongs to one city: its events with their bookings, its customers, its log. It
// is zero for no city of ours.
func (m *Machine) CityDigest(city dems.City) dems.Digest {
	if state := m.state(city); state != nil {
		return dems.Digest(hash{Hi: state.sum.high, Lo: state.sum.low}.Bytes())
	}
	return dems.Digest{}
}

// Recompute forms the digest from the records alone, which takes about 0.1 µs a booking. A difference from Digest means
// that memory changed without a command.
func (m *Machine) Recompute() dems.Digest {
	sums, total := m.sums()
	for i := range sums {
		total.addSum(sums[i])
	}
	return m.headDigest(total)
}

// sums forms the sums of the cities, in their order, and of what belongs to no city, from the records.
func (m *Machine) sums() (cities []sum, common sum) {
	cities = make([]sum, len(m.states))
	for i := range m.states {
		cities[i] = m.states[i].recompute()
	}
	m.customers.Scan(func(userOrder uint64, c *customer) bool {
		user := dems.UserIDFromOrder(userOrder)
		home := &common // a customer of no city of ours, which is damage
		if at := m.cities.Index(user.City); at >= 0 {
			home = &cities[at]
		}
		home.add(c.hash(user))
		c.bookings.Scan(func(eventOrder, number uint64) bool {
			home.add(indexHash(eventOrder, number, user))
			return true
		})
		return true
	})
	common.addSum(m.registry.recompute())
	common.addSum(m.sessions.recompute())
	common.addSum(m.keys.recompute())
	common.addSum(m.cluster.recompute())
	return cities, common
}

func (c *cityState) recompute() sum {
	var total sum
	total.add(c.headHash())
	for eventType := range c.events {
		c.events[eventType].Scan(func(order uint64, e *event) bool {
			total.add(e.hash())
			e.bookings.Scan(func(number uint64, user dems.UserID) bool {
				total.add(bookingHash(order, number, user))
				return true
			})
			return true
		})
	}
	return total
}

// ChainRecord returns the chain digest of a city log after one more record. The chain digest of an empty log is zero;
// it tells whether records fetched from elsewhere are the city's own, all of them and in order.
func ChainRecord(chain dems.Digest, line []byte) dems.Digest {
	return chainLine(chain, lineHash(line))
}

func lineHash(line []byte) hash { return xxh3.Hash128Seed(line, chainSeed) }

func chainLine(chain dems.Digest, line hash) dems.Digest {
	return dems.Digest(hashOf(chainSeed, binary.LittleEndian.Uint64(chain[:8]), binary.LittleEndian.Uint64(chain[8:]),
		line.Hi, line.Lo).Bytes())
}
