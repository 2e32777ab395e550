package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"dems"
	"dems/internal/planted"

	"github.com/zeebo/xxh3"
)

// Idempotency keys that clients sent, each with the result of its request, oldest first. They are bytes, one record
// after the other, in chunks that are appended to and otherwise never change: a million keys are next to no work for
// the garbage collector, and a snapshot shares the chunks.
//
// A record is the key's name (16 bytes), the fingerprint of its request (8), the log time at which it was stored
// (uvarint, Unix milliseconds), the length of the result (uvarint) and the result.

// keyName stands for a user and a key. It is one half of a SHA-256, because users choose their keys and must not be
// able to make one that collides with another user's.
type keyName [16]byte

// keyTable is a queue of keys.
type keyTable struct {
	chunks [][]byte
	first  uint16 // number of chunks[0]; chunks are counted modulo 2^16, and there are far fewer
	head   int    // offset of the oldest record in chunks[0]
	count  int
	bytes  int       // of all records
	index  *keyIndex // nil before the first key, and in snapshots
}

// keyPlace is where a record begins.
type keyPlace struct{ chunk, offset uint16 }

// keyRecord is a record taken apart. It shares memory with the table.
type keyRecord struct {
	name        keyName
	fingerprint uint64
	time        uint64
	result      []byte
	whole       []byte
}

func nameOfKey(user dems.UserID, key string) keyName {
	var buffer [8 + dems.MaxKeyBytes]byte
	text := append(binary.LittleEndian.AppendUint64(buffer[:0], user.Order()), key...)
	digest := sha256.Sum256(text)
	return keyName(digest[:len(keyName{})])
}

// fingerprintOf tells the requests of one key apart: it is that of the command without its time and its key.
func fingerprintOf(command *dems.Command) uint64 {
	request := *command
	request.Time, request.Key = time.Time{}, ""
	var buffer [64]byte
	return xxh3.HashSeed(dems.AppendCommand(buffer[:0], &request), keySeed)
}

func appendKeyRecord(dst []byte, name keyName, fingerprint, time uint64, result []byte) []byte {
	dst = append(dst, name[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, fingerprint)
	dst = binary.AppendUvarint(dst, time)
	dst = binary.AppendUvarint(dst, uint64(len(result)))
	return append(dst, result...)
}

// parseKeyRecord takes the record at the beginning of data apart. What the table holds is well-formed.
func parseKeyRecord(data []byte) keyRecord {
	record := keyRecord{name: keyName(data), fingerprint: binary.LittleEndian.Uint64(data[16:])}
	at := 24
	var size int
	record.time, size = binary.Uvarint(data[at:])
	at += size
	length, size := binary.Uvarint(data[at:])
	at += size
	record.result = data[at : at+int(length)]
	record.whole = data[:at+int(length)]
	return record
}

// find returns the record of a name.
func (t *keyTable) find(name keyName) (keyRecord, bool) {
	if t.index == nil {
		return keyRecord{}, false
	}
	table, slot := t.findSlot(&name)
	if slot < 0 {
		return keyRecord{}, false
	}
	return parseKeyRecord(t.at(table.slots[slot].place)), true
}

// findSlot returns the slot of a name in the index, or -1.
func (t *keyTable) findSlot(name *keyName) (*keyIndexTable, int) {
	table, tag := t.index.locate(name)
	return table, table.find(tag, func(place keyPlace) bool { return keyName(t.at(place)) == *name })
}

// at returns the bytes from the beginning of a record on.
func (t *keyTable) at(place keyPlace) []byte { return t.chunks[place.chunk-t.first][place.offset:] }

// prepare makes an index if there is none yet. The ID of a session seeds it: front ends draw them at random, and no
// client is told.
func (t *keyTable) prepare(open []session) {
	if t.index == nil {
		t.index = &keyIndex{}
		if len(open) > 0 {
			t.index.seed = open[0].id
		}
	}
}

// push appends a record whose name is not in the table, which is prepared. The record is copied.
func (t *keyTable) push(record []byte) {
	last := len(t.chunks) - 1
	if last < 0 || len(t.chunks[last])+len(record) > cap(t.chunks[last]) {
		t.chunks = append(t.chunks, make([]byte, 0, max(keyChunkBytes, len(record))))
		last++
	}
	chunk := t.chunks[last]
	name := keyName(record)
	t.index.add(&name, keyPlace{t.first + uint16(last), uint16(len(chunk))})
	t.chunks[last] = append(chunk, record...)
	t.count++
	t.bytes += len(record)
}

// oldest returns the first record of a table that is not empty.
func (t *keyTable) oldest() keyRecord { return parseKeyRecord(t.chunks[0][t.head:]) }

// pop forgets the oldest record.
func (t *keyTable) pop() {
	record := t.oldest()
	t.index.remove(t.findSlot(&record.name))
	t.count--
	t.bytes -= len(record.whole)
	t.head += len(record.whole)
	if t.head == len(t.chunks[0]) {
		// The chunk stays reachable from snapshots, so the list is cut and not shifted.
		t.chunks = t.chunks[1:]
		t.first++
		t.head = 0
	}
}

// each calls visit for every record, oldest first, until it returns false.
func (t *keyTable) each(visit func(keyRecord) bool) {
	offset := t.head
	for _, chunk := range t.chunks {
		for offset < len(chunk) {
			record := parseKeyRecord(chunk[offset:])
			if !visit(record) {
				return
			}
			offset += len(record.whole)
		}
		offset = 0
	}
}

// copy returns a table to read the records from, which later changes of this one do not touch. It finds nothing.
func (t *keyTable) copy() keyTable {
	copied := *t
	copied.chunks, copied.index = slices.Clone(t.chunks), nil
	return copied
}

func keyHash(record []byte) hash { return xxh3.Hash128Seed(record, keySeed) }

func (t *keyTable) recompute() sum {
	var total sum
	t.each(func(record keyRecord) bool {
		total.add(keyHash(record.whole))
		return true
	})
	return total
}

// storeKey remembers the result of a request under its key, and forgets the oldest keys if there are too many.
func (m *Machine) storeKey(name keyName, fingerprint uint64, result []byte) {
	if planted.Has(planted.LostRecord) {
		return
	}
	m.scratch.key = appendKeyRecord(m.scratch.key[:0], name, fingerprint, m.clock, result)
	m.keys.prepare(m.sessions.open)
	m.keys.push(m.scratch.key)
	m.common.add(keyHash(m.scratch.key))
	for m.keys.count > m.limits.keys || m.keys.bytes > m.limits.keyBytes {
		m.forgetOldestKey()
	}
}

func (m *Machine) forgetOldestKey() {
	m.common.remove(keyHash(m.keys.oldest().whole))
	m.keys.pop()
}

// expireKeys forgets keys that are older than their lifetime: a bounded number at a time, because a clock that is far
// ahead must not stop the machine while a million keys go.
func (m *Machine) expireKeys() {
	lifetime := uint64(dems.KeyLifetime / time.Millisecond)
	for range m.limits.expiredKeys {
		if m.keys.count == 0 || m.keys.oldest().time+lifetime >= m.clock {
			return
		}
		m.forgetOldestKey()
	}
}
