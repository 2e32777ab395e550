package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"dems"

	"github.com/zeebo/xxh3"
)

func snapshotBytes(t testing.TB, s *Snapshot) []byte {
	t.Helper()
	var out bytes.Buffer
	count, err := s.WriteTo(&out)
	if err != nil || count != int64(out.Len()) {
		t.Fatalf("write %d of %d bytes: %v", count, out.Len(), err)
	}
	return out.Bytes()
}

func restoredFrom(t testing.TB, m *Machine) *Machine {
	t.Helper()
	restored, err := Restore(bytes.NewReader(snapshotBytes(t, m.Snapshot())), m.Cities())
	if err != nil {
		t.Fatal(err)
	}
	return restored
}

// smallMachine has something of everything.
func smallMachine(t testing.TB) *Machine {
	h := newHarness(t)
	h.registerNode(node("n1", 1))
	h.registerNode(node("n2", 3))
	h.registerFrontEnd("fe2", 99)
	h.configure("n1 n2.3 n3 n4")
	h.judge("n1", "n2")
	h.judge("n3", "n2")
	h.judge("n4", "n2")
	h.configure("n1 n3 n4")
	h.configure("n1 n2.4? n3 n4")
	h.judge("n1", "n4")
	h.judge("n1", "n3")
	h.report(dems.LeaderChangeIncident)
	h.replace("n1", true)
	h.do(
		withKey(add("TORM0001", "seminar", "TORM100519", 3), "k1"), add("TORM0001", "seminar", "TORA100519", 1),
		add("TORM0001", "conference", "TORM100519", 2), add("OTWM0001", "tradeshow", "OTWE311299", 1),
		withKey(book("TORC0001", "seminar", "TORM100519"), "k1"), book("MTLC0001", "seminar", "TORM100519"),
		book("MTLC0001", "conference", "TORM100519"), book("OTWC9999", "tradeshow", "OTWE311299"), book("OTWC0002", "seminar", "TORA100519"),
	)
	h.do(cancel("OTWC0002", "seminar", "TORA100519"), withKey(book("TORC0009", "tradeshow", "MTLM010100"), "k2"))
	return h.machine
}

func TestSnapshotOfSmallAndEmptyMachines(t *testing.T) {
	for name, m := range map[string]*Machine{"empty": New(dems.DefaultCities()), "small": smallMachine(t), "no cities": New(nil)} {
		data := snapshotBytes(t, m.Snapshot())
		if again := snapshotBytes(t, m.Snapshot()); !bytes.Equal(again, data) {
			t.Errorf("%s: two snapshots of one state differ", name)
		}
		for how, reader := range map[string]io.Reader{
			"at once": bytes.NewReader(data), "bytewise": iotest.OneByteReader(bytes.NewReader(data)), "early end": iotest.DataErrReader(bytes.NewReader(data)),
		} {
			restored, err := Restore(reader, m.Cities())
			if err != nil {
				t.Fatalf("%s, %s: %v", name, how, err)
			}
			if restored.Digest() != m.Digest() || restored.Recompute() != m.Digest() || restored.Index() != m.Index() {
				t.Errorf("%s, %s: another digest or index", name, how)
			}
			for _, named := range m.Cities() {
				if restored.CityDigest(named.City) != m.CityDigest(named.City) {
					t.Errorf("%s, %s: another digest of %s", name, how, named.City)
				}
			}
			if again := snapshotBytes(t, restored.Snapshot()); !bytes.Equal(again, data) {
				t.Errorf("%s, %s: the restored machine has another snapshot", name, how)
			}
		}
	}
}

// TestSnapshotWithManyBlocks crosses block boundaries within the bookings of one event and within every other kind.
func TestSnapshotWithManyBlocks(t *testing.T) {
	m, w := New(dems.DefaultCities()), newWorkload(true)
	w.fill(t, m, 40_000/slowdown)
	data := snapshotBytes(t, m.Snapshot())
	if len(data) < 4*blockBytes/slowdown {
		t.Fatalf("only %d bytes", len(data))
	}
	restored, err := Restore(bytes.NewReader(data), m.Cities())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // and the restored machine goes on like the first
		index, entry := w.next(dems.MaxBatchCommands)
		if first, second := mustApply(t, m, index, entry), mustApply(t, restored, index, entry); first.StateDigest != second.StateDigest || first.ResultDigest != second.ResultDigest {
			t.Fatalf("at %d they differ", index)
		}
	}
}

// TestSnapshotWhileApplying writes snapshots from other goroutines while the machine goes on; the race detector watches.
func TestSnapshotWhileApplying(t *testing.T) {
	m, w := New(dems.DefaultCities()), newWorkload(true)
	w.fill(t, m, 10_000/slowdown)
	results := make(chan error)
	const snapshots = 5
	for range snapshots {
		s, digest := m.Snapshot(), m.Digest()
		go func() {
			var out bytes.Buffer
			if _, err := s.WriteTo(&out); err != nil {
				results <- err
				return
			}
			restored, err := Restore(&out, m.Cities())
			if err == nil && (restored.Digest() != digest || s.Recompute() != digest) {
				err = fmt.Errorf("digest %s, restored %s, recomputed %s", digest, restored.Digest(), s.Recompute())
			}
			results <- err
		}()
		for range 10 {
			index, entry := w.next(100)
			mustApply(t, m, index, entry)
		}
	}
	for range snapshots {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if m.Recompute() != m.Digest() {
		t.Error("the machine itself was damaged")
	}
}

func TestRestoreRefusesOtherCities(t *testing.T) {
	data := snapshotBytes(t, smallMachine(t).Snapshot())
	for _, text := range []string{"TOR=Toronto", "MTL=Montreal,OTW=Ottawa,TOR=Tokyo", "MTL=Montreal,OTW=Ottawa,TOR=Toronto,VAN=Vancouver"} {
		cities, err := dems.ParseCities(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(bytes.NewReader(data), cities); !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "cities") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRestoreRefusesTruncatedAndLonger(t *testing.T) {
	cities := dems.DefaultCities()
	data := snapshotBytes(t, smallMachine(t).Snapshot())
	for length := range data {
		if _, err := Restore(bytes.NewReader(data[:length]), cities); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("the first %d of %d bytes: %v", length, len(data), err)
		}
	}
	if _, err := Restore(bytes.NewReader(append(slices.Clone(data), 0)), cities); !errors.Is(err, ErrSnapshot) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestRestoreRefusesEveryFlippedBit(t *testing.T) {
	data := snapshotBytes(t, smallMachine(t).Snapshot())
	for at := range data {
		for bit := range 8 {
			damaged := slices.Clone(data)
			damaged[at] ^= 1 << bit
			if _, err := Restore(bytes.NewReader(damaged), dems.DefaultCities()); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("byte %d, bit %d: %v", at, bit, err)
			}
		}
	}
}

// TestRestoreRefusesWithRightChecksums changes every byte and makes the checksums right again, so that the checks of the
// records, of the invariants and of the digest have to find it.
func TestRestoreRefusesWithRightChecksums(t *testing.T) {
	data := snapshotBytes(t, smallMachine(t).Snapshot())
	for at := len(snapshotMagic) + 1; at < len(data)-16; at++ {
		for _, change := range []byte{1, 0x80, 0xff} {
			damaged := slices.Clone(data)
			damaged[at] ^= change
			if !repair(damaged) || bytes.Equal(damaged, data) {
				continue // it is no sequence of blocks any more, or only a checksum was changed
			}
			if _, err := Restore(bytes.NewReader(damaged), dems.DefaultCities()); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("byte %d ^ %x: %v", at, change, err)
			}
		}
	}
}

// repair makes the checksums of a snapshot right. It returns false if the blocks do not end where they should.
func repair(data []byte) bool {
	at := len(snapshotMagic) + 1
	for {
		if at >= len(data) {
			return false
		}
		if data[at] == byte(trailerKind) {
			break
		}
		if at+blockHeadBytes > len(data) {
			return false
		}
		end := uint64(at) + blockHeadBytes + uint64(binary.LittleEndian.Uint32(data[at+1:]))
		if end+checksumBytes > uint64(len(data)) {
			return false
		}
		binary.LittleEndian.PutUint32(data[end:], crc32.Checksum(data[at:end], castagnoli))
		at = int(end) + checksumBytes
	}
	if at+trailerBytes != len(data) {
		return false
	}
	checksum := xxh3.Hash128(data[:at+17]).Bytes()
	copy(data[at+17:], checksum[:])
	return true
}

// TestRestoreRefusesOtherVersions tells people which version they have.
func TestRestoreRefusesOtherVersions(t *testing.T) {
	for _, version := range []byte{0, 1, snapshotVersion + 1} {
		data := snapshotBytes(t, New(dems.DefaultCities()).Snapshot())
		data[len(snapshotMagic)] = version
		if !repair(data) {
			t.Fatal("no snapshot any more")
		}
		want := fmt.Sprintf("version %d of the format", version)
		if _, err := Restore(bytes.NewReader(data), dems.DefaultCities()); !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), want) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// TestRestoreTakesNoMemoryForLies announces a block of a gibibyte and sends nothing of it.
func TestRestoreTakesNoMemoryForLies(t *testing.T) {
	data := append([]byte(snapshotMagic), snapshotVersion, byte(headBlock))
	data = binary.LittleEndian.AppendUint32(data, maxBlockBytes)
	data = append(data, "and that is all"...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Restore(bytes.NewReader(data), dems.DefaultCities()); !errors.Is(err, ErrSnapshot) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 4<<20 { // what tests running at the same time take included
		t.Errorf("%d bytes for %d", taken, len(data))
	}
}

func TestReadAndWriteErrorsArePassedOn(t *testing.T) {
	s := smallMachine(t).Snapshot()
	data := snapshotBytes(t, s)
	broken := errors.New("broken")
	for _, length := range []int{0, 5, 9, 12, 40, len(data) - 20, len(data) - 5, len(data)} {
		reader := io.MultiReader(bytes.NewReader(data[:length]), iotest.ErrReader(broken))
		if _, err := Restore(reader, dems.DefaultCities()); !errors.Is(err, broken) || errors.Is(err, ErrSnapshot) {
			t.Errorf("read error after %d bytes: %v", length, err)
		}
		if length == len(data) {
			break
		}
		count, err := s.WriteTo(&limitedWriter{left: length, err: broken})
		if !errors.Is(err, broken) || count != int64(length) {
			t.Errorf("write error after %d bytes: %d written, %v", length, count, err)
		}
	}
}

// limitedWriter takes so many bytes and then fails.
type limitedWriter struct {
	left int
	err  error
}

func (w *limitedWriter) Write(data []byte) (int, error) {
	if len(data) <= w.left {
		w.left -= len(data)
		return len(data), nil
	}
	count := w.left
	w.left = 0
	return count, w.err
}

// TestSnapshotCostsTheSameHoweverLarge counts what Snapshot allocates: nothing that grows with the bookings.
func TestSnapshotCostsTheSameHoweverLarge(t *testing.T) {
	allocations := func(bookings int) float64 {
		m, w := New(dems.DefaultCities()), newWorkload(false)
		w.fill(t, m, bookings)
		return testing.AllocsPerRun(5, func() { m.Snapshot() })
	}
	if small, large := allocations(100), allocations(20_000/slowdown); large > small {
		t.Errorf("%g allocations with few bookings, %g with many", small, large)
	}
}
