package fsm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"dems"

	"github.com/tidwall/btree"
	"github.com/zeebo/xxh3"
)

// Snapshot is the state at one index. It shares memory with the machine, copy on write: it may be used from another
// goroutine while Apply goes on. Its methods only read and may run concurrently with each other.
type Snapshot struct {
	frozen Machine // nothing changes it, and its keys cannot be searched
}

// Snapshot takes a snapshot. It takes well under a millisecond however large the state is; afterwards the first change of
// each event and customer costs a copy of what it changes. It must be called as Apply is: while nothing else runs.
func (m *Machine) Snapshot() *Snapshot {
	s := &Snapshot{Machine{
		cities: m.cities, limits: m.limits, index: m.index, clock: m.clock, lastBooking: m.lastBooking, typeVersions: m.typeVersions,
		states: slices.Clone(m.states), customers: *m.customers.Copy(), registry: m.registry.copy(),
		sessions: m.sessions.copy(), keys: m.keys.copy(), cluster: m.cluster.copy(), common: m.common,
	}}
	for i := range m.states {
		s.frozen.states[i].events = copyEvents(&m.states[i].events)
	}
	m.generation++
	return s
}

func copyEvents(events *[typeCount]btree.Map[uint64, *event]) (copied [typeCount]btree.Map[uint64, *event]) {
	for i := range events {
		copied[i] = *events[i].Copy()
	}
	return copied
}

// Index returns the index of the last entry that the snapshot holds.
func (s *Snapshot) Index() uint64 { return s.frozen.Index() }

// Digest returns the digest that the state had when the snapshot was taken.
func (s *Snapshot) Digest() dems.Digest { return s.frozen.Digest() }

// Recompute forms the digest again from the records: whoever hands a snapshot on compares it with Digest first.
func (s *Snapshot) Recompute() dems.Digest { return s.frozen.Recompute() }

// CityLog returns how many ordered records a city's log has at the snapshot, and the chain digest over them.
func (s *Snapshot) CityLog(city dems.City) (records uint64, chain dems.Digest) {
	return s.frozen.CityLog(city)
}

// Origin returns what a backup of the snapshot is called.
func (s *Snapshot) Origin() dems.Origin { return s.frozen.Origin() }

// Logs returns what the snapshot knows of the cities' logs, in the order of the cities.
func (s *Snapshot) Logs() []CityLog { return s.frozen.Logs() }

// Cities returns the cities of the cluster.
func (s *Snapshot) Cities() dems.Cities { return s.frozen.Cities() }

// The form of a snapshot is drawn in docs/formats.md: a head, blocks of records, and a trailer.
const (
	snapshotMagic   = "DEMSSNAP"
	snapshotVersion = 2
	blockBytes      = 256 << 10 // a block is closed when it has that many bytes; one record may make it larger
	maxBlockBytes   = 1 << 30
	blockHeadBytes  = 5 // kind, length
	checksumBytes   = 4
	trailerBytes    = 1 + 16 + 16 // kind, state digest, checksum of everything before
)

// blockKind says what the records of a block are. Blocks stand in the order of their kinds.
type blockKind byte

const (
	headBlock blockKind = iota + 1
	cityBlock
	eventBlock // events, each followed by its bookings
	customerBlock
	sessionBlock
	batchBlock
	keyBlock
	nodeBlock
	frontEndBlock
	memberBlock
	standingBlock
	verdictBlock
	incidentBlock
	trailerKind
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteTo writes the snapshot. It holds no more than one block in memory. States with the same records give the same
// bytes. It does not compare Recompute with Digest.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	out := &snapshotWriter{to: w, hasher: xxh3.New(), buffer: make([]byte, 0, blockBytes+blockBytes/4)}
	out.write(append([]byte(snapshotMagic), snapshotVersion))
	m := &s.frozen
	out.writeHead(m)
	out.writeEvents(m)
	out.writeCustomers(m)
	out.writeSessions(m)
	m.keys.each(func(record keyRecord) bool {
		out.record(keyBlock, func(dst []byte) []byte { return append(dst, record.whole...) })
		return out.err == nil
	})
	out.writeRegistry(m)
	out.writeCluster(&m.cluster)
	out.closeBlock()
	digest := s.Digest()
	out.write(append([]byte{byte(trailerKind)}, digest[:]...))
	checksum := out.hasher.Sum128().Bytes()
	out.write(checksum[:])
	return out.written, out.err
}

// snapshotWriter cuts records into blocks.
type snapshotWriter struct {
	to      io.Writer
	hasher  *xxh3.Hasher // of everything written
	buffer  []byte       // the block that is open, its head included; empty if none is
	written int64
	err     error // the first one; nothing is written after it
}

func (o *snapshotWriter) write(data []byte) {
	if o.err != nil {
		return
	}
	_, _ = o.hasher.Write(data) // never fails
	count, err := o.to.Write(data)
	o.written += int64(count)
	if err != nil {
		o.err = fmt.Errorf("write snapshot: %w", err)
	}
}

// record puts a record into a block of its kind.
func (o *snapshotWriter) record(kind blockKind, put func(dst []byte) []byte) {
	if len(o.buffer) > 0 && (o.buffer[0] != byte(kind) || len(o.buffer) >= blockBytes) {
		o.closeBlock()
	}
	if len(o.buffer) == 0 {
		o.buffer = append(o.buffer, byte(kind), 0, 0, 0, 0)
	}
	o.buffer = put(o.buffer)
}

func (o *snapshotWriter) closeBlock() {
	if len(o.buffer) == 0 {
		return
	}
	length := len(o.buffer) - blockHeadBytes
	if length > maxBlockBytes && o.err == nil {
		o.err = fmt.Errorf("write snapshot: a record of %d bytes is too large", length)
	}
	binary.LittleEndian.PutUint32(o.buffer[1:], uint32(length))
	o.write(binary.LittleEndian.AppendUint32(o.buffer, crc32.Checksum(o.buffer, castagnoli)))
	o.buffer = o.buffer[:0]
}

func (o *snapshotWriter) writeHead(m *Machine) {
	o.record(headBlock, func(dst []byte) []byte {
		dst = dems.AppendText(dst, m.cities.String())
		dst = appendNumbers(dst, m.index, m.clock, m.lastBooking)
		dst = appendNumbers(dst, m.typeVersions[1:]...)
		return appendNumbers(dst, m.registry.version, m.cluster.time)
	})
	for i := range m.states {
		o.record(cityBlock, func(dst []byte) []byte {
			dst = appendNumbers(dst, m.states[i].membership[1:]...)
			dst = appendNumbers(dst, m.states[i].records)
			return append(dst, m.states[i].chain[:]...)
		})
	}
}

func (o *snapshotWriter) writeEvents(m *Machine) {
	for i := range m.states {
		for eventType := range m.states[i].events {
			m.states[i].events[eventType].Scan(func(_ uint64, e *event) bool {
				o.record(eventBlock, func(dst []byte) []byte {
					return appendNumbers(dems.AppendEvent(dst, e.key), uint64(e.capacity), e.version, uint64(e.booked()))
				})
				last := uint64(0)
				e.bookings.Scan(func(number uint64, user dems.UserID) bool {
					o.record(eventBlock, func(dst []byte) []byte {
						return appendUserID(binary.AppendUvarint(dst, number-last), user)
					})
					last = number
					return o.err == nil
				})
				return o.err == nil
			})
		}
	}
}

func (o *snapshotWriter) writeCustomers(m *Machine) {
	m.customers.Scan(func(order uint64, c *customer) bool {
		o.record(customerBlock, func(dst []byte) []byte {
			return appendNumbers(appendUserID(dst, dems.UserIDFromOrder(order)), c.version)
		})
		return o.err == nil
	})
}

func (o *snapshotWriter) writeSessions(m *Machine) {
	for i := range m.sessions.open {
		s := &m.sessions.open[i]
		o.record(sessionBlock, func(dst []byte) []byte {
			return appendNumbers(dems.AppendText(appendNumbers(dst, s.id), s.frontEnd), s.used, s.highest)
		})
	}
	for i := range m.sessions.open {
		s := &m.sessions.open[i]
		for number := s.oldest(); number <= s.highest && number != 0; number++ {
			if b := s.batch(number); b != nil {
				o.record(batchBlock, func(dst []byte) []byte { return b.append(dst, s.id) })
			}
		}
	}
}

// append appends the batch: of one that lost its results, no results and the digest.
func (b *batch) append(dst []byte, session uint64) []byte {
	dst = appendNumbers(dst, session, b.number, b.index, uint64(len(b.results)))
	if b.results == nil {
		return append(dst, b.digest[:]...)
	}
	return append(dst, b.results...)
}

func (o *snapshotWriter) writeRegistry(m *Machine) {
	put := func(kind blockKind, list []registration) {
		for i := range list {
			o.record(kind, func(dst []byte) []byte {
				return appendNumbers(dems.AppendRegistration(dst, &list[i].Registration), list[i].index)
			})
		}
	}
	put(nodeBlock, m.registry.nodes)
	put(frontEndBlock, m.registry.frontEnds)
}

func (o *snapshotWriter) writeCluster(c *cluster) {
	for i := range c.members {
		o.record(memberBlock, func(dst []byte) []byte { return appendMember(dst, &c.members[i]) })
	}
	for i := range c.standings {
		o.record(standingBlock, c.standings[i].append)
	}
	for i := range c.verdicts {
		o.record(verdictBlock, c.verdicts[i].append)
	}
	for i := range c.incidents {
		o.record(incidentBlock, func(dst []byte) []byte { return appendIncident(dst, &c.incidents[i]) })
	}
}

func appendNumbers(dst []byte, numbers ...uint64) []byte {
	for _, number := range numbers {
		dst = binary.AppendUvarint(dst, number)
	}
	return dst
}

// appendUserID appends city (3 bytes), role (1) and number (2, little endian), as log entries have them.
func appendUserID(dst []byte, user dems.UserID) []byte {
	return append(dst, user.City[0], user.City[1], user.City[2], byte(user.Role), byte(user.Number), byte(user.Number>>8))
}
