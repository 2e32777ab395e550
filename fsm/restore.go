package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"dems"

	"github.com/zeebo/xxh3"
)

// ErrSnapshot is the cause when Restore is given something that is not a whole and consistent snapshot of a cluster with
// the same cities.
var ErrSnapshot = errors.New("bad snapshot")

// Restore reads a snapshot that WriteTo wrote, to its end, and returns a new machine with that state. It checks the
// version, every checksum, the cities, every record, the invariants, and that the digest formed from the records is the
// one that the snapshot carries. Memory is taken only for what was read. The error wraps ErrSnapshot, or is the
// reader's.
func Restore(r io.Reader, cities dems.Cities) (*Machine, error) {
	in := newSnapshotReader(r, cities)
	digest, err := in.readAll()
	if err == nil {
		err = in.checkWhole(digest)
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return in.machine, nil
}

// snapshotReader builds a machine from blocks.
type snapshotReader struct {
	from    io.Reader
	hasher  *xxh3.Hasher // of everything read
	payload bytes.Buffer // of the block that is being read
	machine *Machine
	take    [trailerKind]func(*dems.Decoder) error // takes one record of a kind

	kind     blockKind     // of the last block
	cities   int           // read so far
	key      dems.EventKey // of the last event
	event    *event        // the last one
	bookings uint64        // of it, still to come
	number   uint64        // of its last booking
}

func newSnapshotReader(r io.Reader, cities dems.Cities) *snapshotReader {
	in := &snapshotReader{from: r, hasher: xxh3.New(), machine: New(cities)}
	in.take = [trailerKind]func(*dems.Decoder) error{
		headBlock: in.takeHead, cityBlock: in.takeCity, eventBlock: in.takeEventOrBooking, customerBlock: in.takeCustomer,
		keyBlock: in.takeKey, sessionBlock: in.takeSession, batchBlock: in.takeBatch,
		nodeBlock: in.takeNode, frontEndBlock: in.takeFrontEnd,
		memberBlock: in.takeMember, standingBlock: in.takeStanding, verdictBlock: in.takeVerdict, incidentBlock: in.takeIncident,
	}
	return in
}

func bad(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", ErrSnapshot, fmt.Sprintf(format, arguments...))
}

// readAll reads everything and returns the digest that the snapshot says it has.
func (in *snapshotReader) readAll() (dems.Digest, error) {
	head := make([]byte, len(snapshotMagic)+1)
	if err := in.read(head); err != nil {
		return dems.Digest{}, err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return dems.Digest{}, bad("this is no snapshot")
	}
	if version := head[len(snapshotMagic)]; version != snapshotVersion {
		return dems.Digest{}, bad("it has version %d of the format, and this program reads only version %d", version, snapshotVersion)
	}
	for {
		kind, err := in.readBlock()
		if err != nil {
			return dems.Digest{}, err
		}
		if kind == trailerKind {
			return in.readTrailer()
		}
		if err := in.takeBlock(kind); err != nil {
			return dems.Digest{}, err
		}
	}
}

// read reads exactly as much as fits into data.
func (in *snapshotReader) read(data []byte) error {
	if _, err := io.ReadFull(in.from, data); err != nil {
		return truncated(err)
	}
	_, _ = in.hasher.Write(data) // never fails
	return nil
}

func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return bad("it is truncated")
	}
	return fmt.Errorf("read snapshot: %w", err)
}

// readBlock reads the next block into payload and checks its checksum. Of the trailer it reads the kind alone.
func (in *snapshotReader) readBlock() (blockKind, error) {
	var head [blockHeadBytes]byte
	if err := in.read(head[:1]); err != nil {
		return 0, err
	}
	kind := blockKind(head[0])
	if kind == trailerKind {
		return kind, nil
	}
	if kind < headBlock || kind > trailerKind || kind < in.kind {
		return 0, bad("a block of kind %d after one of kind %d", kind, in.kind)
	}
	if err := in.read(head[1:]); err != nil {
		return 0, err
	}
	length := int64(binary.LittleEndian.Uint32(head[1:]))
	if length == 0 || length > maxBlockBytes {
		return 0, bad("a block of %d bytes", length)
	}
	in.payload.Reset()
	// CopyN grows the buffer as data comes, so a length that is a lie costs nothing.
	if _, err := io.CopyN(&in.payload, in.from, length); err != nil {
		return 0, truncated(err)
	}
	_, _ = in.hasher.Write(in.payload.Bytes())
	var checksum [checksumBytes]byte
	if err := in.read(checksum[:]); err != nil {
		return 0, err
	}
	computed := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, in.payload.Bytes())
	if computed != binary.LittleEndian.Uint32(checksum[:]) {
		return 0, bad("a block of kind %d has a wrong checksum", kind)
	}
	return kind, nil
}

// takeBlock puts the records of a block into the machine.
func (in *snapshotReader) takeBlock(kind blockKind) error {
	if kind != headBlock && in.kind == 0 || kind == headBlock && in.kind != 0 {
		return bad("not one head, or not first")
	}
	if kind > cityBlock && in.cities != len(in.machine.states) {
		return bad("%d cities and not %d", in.cities, len(in.machine.states))
	}
	if kind > eventBlock && in.bookings != 0 {
		return bad("%s lacks %d bookings", in.key, in.bookings)
	}
	in.kind = kind
	take, d := in.take[kind], dems.NewDecoder(in.payload.Bytes())
	for d.Rest() > 0 {
		err := take(d)
		if failure := d.Err(); failure != nil {
			return bad("a block of kind %d: %v", kind, failure)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readTrailer checks the end of the file and returns the digest of the state that it names.
func (in *snapshotReader) readTrailer() (digest dems.Digest, err error) {
	var checksum dems.Digest
	if err := in.read(digest[:]); err != nil {
		return digest, err
	}
	computed := dems.Digest(in.hasher.Sum128().Bytes())
	if err := in.read(checksum[:]); err != nil {
		return digest, err
	}
	if computed != checksum {
		return digest, bad("wrong checksum")
	}
	if count, err := io.ReadFull(in.from, make([]byte, 1)); count != 0 {
		return digest, bad("trailing data")
	} else if !errors.Is(err, io.EOF) {
		return digest, fmt.Errorf("read snapshot: %w", err)
	}
	if in.kind == 0 || in.cities != len(in.machine.states) || in.bookings != 0 {
		return digest, bad("records are missing")
	}
	return digest, nil
}

// checkWhole checks the state as a whole.
func (in *snapshotReader) checkWhole(digest dems.Digest) error {
	if err := in.machine.CheckInvariants(); err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	in.machine.resum()
	return compareDigests(in.machine.Digest(), digest)
}

// compareDigests compares the digest formed from a snapshot's records with the one that it carries.
func compareDigests(computed, carried dems.Digest) error {
	if computed != carried {
		return bad("its records have digest %s, but it was taken of a state with digest %s", computed, carried)
	}
	return nil
}

// resum forms the sums that Apply keeps, from the records.
func (m *Machine) resum() {
	sums, common := m.sums()
	for i := range m.states {
		m.states[i].sum, m.states[i].head, m.states[i].changed = sums[i], m.states[i].headHash(), false
	}
	m.common = common
}
