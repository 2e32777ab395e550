package fsm

import (
	"cmp"
	"encoding/binary"
	"slices"

	"dems"
	"dems/internal/planted"

	"github.com/zeebo/xxh3"
)

// Sessions make a front end's batches exactly-once: a batch that is proposed again, because its front end does not know
// what became of it, is recognised by its number and answered from what is stored here.

// sessionTable holds the open sessions, ordered by their ID.
type sessionTable struct {
	open        []session
	storedBytes int // of all results stored
}

// session is what is remembered of one front end between its start and its end.
type session struct {
	id       uint64
	frontEnd string                         // the ID of the front end that opened it
	used     uint64                         // index of the last entry of the session
	highest  uint64                         // largest number of its batches, 0 before the first
	batches  [dems.MaxBatchesInFlight]batch // batch n is at n modulo the length
}

// batch is one batch that was applied.
type batch struct {
	number, index uint64
	results       []byte // nil if they gave way to the limit; never changed, so snapshots share them
	digest        dems.Digest
}

func (t *sessionTable) find(id uint64) *session {
	at, found := t.search(id)
	if !found {
		return nil
	}
	return &t.open[at]
}

func (t *sessionTable) search(id uint64) (int, bool) {
	return slices.BinarySearchFunc(t.open, id, func(s session, id uint64) int { return cmp.Compare(s.id, id) })
}

// batch returns the batch with a number, or nil if it was never applied or is forgotten.
func (s *session) batch(number uint64) *batch {
	if b := s.place(number); b.number == number && number != 0 {
		return b
	}
	return nil
}

// place returns where a batch is, or would be.
func (s *session) place(number uint64) *batch { return &s.batches[number%uint64(len(s.batches))] }

// tooOld tells whether a batch would be forgotten by now, so that it must not be applied.
func (s *session) tooOld(number uint64) bool {
	return number < s.oldest()
}

// oldest returns the smallest number of a batch that may be remembered.
func (s *session) oldest() uint64 {
	if s.highest < dems.MaxBatchesInFlight {
		return 1
	}
	return s.highest - dems.MaxBatchesInFlight + 1
}

// Batch returns the stored results of a batch that was applied and is still remembered, with the index of its entry.
// The caller must not change the results.
func (m *Machine) Batch(session, number uint64) (index uint64, results []byte, resultDigest dems.Digest, ok bool) {
	s := m.sessions.find(session)
	if s == nil {
		return 0, nil, dems.Digest{}, false
	}
	b := s.batch(number)
	if b == nil || b.results == nil {
		return 0, nil, dems.Digest{}, false
	}
	return b.index, b.results, b.digest, true
}

// openSession opens a session, or finds it open, and forgets the one unused for longest if there are too many. The
// sessions that a front end opened before stay: entries of theirs may still be on their way.
func (m *Machine) openSession(id uint64, frontEnd string) {
	t := &m.sessions
	at, found := t.search(id)
	if !found {
		if len(t.open) >= m.limits.sessions {
			m.forgetSession()
			at, _ = t.search(id)
		}
		t.open = slices.Insert(t.open, at, session{id: id, frontEnd: frontEnd})
		m.common.add(t.open[at].hash())
	}
	m.useSession(&t.open[at], 0)
}

func (m *Machine) forgetSession() {
	t := &m.sessions
	oldest := 0
	for i := range t.open {
		if t.open[i].used < t.open[oldest].used {
			oldest = i
		}
	}
	s := &t.open[oldest]
	for i := range s.batches {
		m.forgetBatch(s, &s.batches[i])
	}
	m.common.remove(s.hash())
	t.open = slices.Delete(t.open, oldest, oldest+1)
}

// useSession notes that an entry of the session was applied.
func (m *Machine) useSession(s *session, number uint64) {
	m.common.remove(s.hash())
	s.used, s.highest = m.index, max(s.highest, number)
	m.common.add(s.hash())
}

// storeBatch remembers a batch and forgets those that it makes too old.
func (m *Machine) storeBatch(s *session, number uint64, results []byte, digest dems.Digest) {
	m.useSession(s, number)
	for i := range s.batches {
		if s.tooOld(s.batches[i].number) {
			m.forgetBatch(s, &s.batches[i])
		}
	}
	if planted.Has(planted.LostRecord) {
		return
	}
	b := s.place(number)
	*b = batch{number: number, index: m.index, results: results, digest: digest}
	m.common.add(b.hash(s.id))
	m.sessions.storedBytes += len(results)
	for m.sessions.storedBytes > m.limits.storedResultBytes {
		m.dropOldestResults()
	}
}

func (m *Machine) forgetBatch(s *session, b *batch) {
	if b.number != 0 {
		m.common.remove(b.hash(s.id))
		m.sessions.storedBytes -= len(b.results)
		*b = batch{}
	}
}

// dropOldestResults makes room: of the oldest batch that has its results, everything but the results stays, so that it
// is not applied again.
func (m *Machine) dropOldestResults() {
	var from *session
	var oldest *batch
	for i := range m.sessions.open {
		s := &m.sessions.open[i]
		for j := range s.batches {
			if b := &s.batches[j]; b.results != nil && (oldest == nil || b.index < oldest.index) {
				from, oldest = s, b
			}
		}
	}
	m.common.remove(oldest.hash(from.id))
	m.sessions.storedBytes -= len(oldest.results)
	oldest.results = nil
	m.common.add(oldest.hash(from.id))
}

func (s *session) hash() hash {
	return hashOf(sessionSeed, s.id, xxh3.HashStringSeed(s.frontEnd, sessionSeed), s.used, s.highest)
}

func (b *batch) hash(session uint64) hash {
	dropped := uint64(0)
	if b.results == nil {
		dropped = 1
	}
	return hashOf(batchSeed, session, b.number, b.index, dropped,
		binary.LittleEndian.Uint64(b.digest[:8]), binary.LittleEndian.Uint64(b.digest[8:]))
}

func (t *sessionTable) recompute() sum {
	var total sum
	for i := range t.open {
		s := &t.open[i]
		total.add(s.hash())
		for j := range s.batches {
			again := s.batches[j]
			if again.results != nil {
				again.digest = dems.DigestOf(again.results)
			}
			if again.number != 0 {
				total.add(again.hash(s.id))
			}
		}
	}
	return total
}

// copy returns a table that later changes of this one do not touch.
func (t *sessionTable) copy() sessionTable {
	return sessionTable{open: slices.Clone(t.open), storedBytes: t.storedBytes}
}
