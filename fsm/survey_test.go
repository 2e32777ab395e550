package fsm

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"dems"

	"github.com/google/go-cmp/cmp"
)

// surveyed returns the survey of a snapshot, which has to be a good one.
func surveyed(t testing.TB, data []byte, cities dems.Cities) Survey {
	t.Helper()
	survey, err := SurveySnapshot(bytes.NewReader(data), cities)
	if err != nil {
		t.Fatal(err)
	}
	return survey
}

func TestSurveyIsThatOfTheMachine(t *testing.T) {
	large, w := New(dems.DefaultCities()), newWorkload(true)
	w.fill(t, large, 40_000/slowdown)
	for name, m := range map[string]*Machine{
		"empty": New(dems.DefaultCities()), "small": smallMachine(t), "no cities": New(nil), "large": large,
	} {
		data := snapshotBytes(t, m.Snapshot())
		if diff := cmp.Diff(Survey{m.Origin(), m.Logs()}, surveyed(t, data, m.Cities())); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	data := snapshotBytes(t, large.Snapshot())
	if _, err := SurveySnapshot(iotest.HalfReader(bytes.NewReader(data)), large.Cities()); err != nil {
		t.Errorf("in pieces: %v", err)
	}
}

func TestLogsAreThoseOfTheCities(t *testing.T) {
	m := smallMachine(t)
	for i, log := range m.Logs() {
		records, chain := m.CityLog(m.Cities()[i].City)
		if log != (CityLog{m.Cities()[i].City, records, chain}) || records == 0 {
			t.Errorf("%+v, want %d records and %s", log, records, chain)
		}
	}
}

// TestSurveyRefusesDamage changes every byte, as it is and with the checksums made right again, cuts the snapshot everywhere,
// and gives it to other cities.
func TestSurveyRefusesDamage(t *testing.T) {
	data, cities := snapshotBytes(t, smallMachine(t).Snapshot()), dems.DefaultCities()
	refuse := func(what string, at int, damaged []byte, cities dems.Cities) {
		t.Helper()
		if _, err := SurveySnapshot(bytes.NewReader(damaged), cities); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("%s, byte %d: %v", what, at, err)
		}
	}
	for at := range data {
		damaged := slices.Clone(data)
		damaged[at] ^= 1 << (at % 8)
		refuse("flipped", at, damaged, cities)
		if repair(damaged) && !bytes.Equal(damaged, data) {
			refuse("flipped, with checksums", at, damaged, cities)
		}
		refuse("cut", at, data[:at], cities)
	}
	refuse("longer", len(data), append(slices.Clone(data), 0), cities)
	refuse("other cities", 0, data, cities[:2])
}

// TestSurveyAndRestoreAgree gives both the same damage in which the checksums are right.
func TestSurveyAndRestoreAgree(t *testing.T) {
	data, cities := snapshotBytes(t, smallMachine(t).Snapshot()), dems.DefaultCities()
	for at := range data {
		damaged := slices.Clone(data)
		if damaged[at]++; !repair(damaged) {
			continue
		}
		_, surveyError := SurveySnapshot(bytes.NewReader(damaged), cities)
		if _, err := Restore(bytes.NewReader(damaged), cities); (err == nil) != (surveyError == nil) {
			t.Errorf("byte %d: restored with %v, surveyed with %v", at, err, surveyError)
		}
	}
}

// TestSurveyMissesNothing leaves whole records out and puts the right checksums behind what is left.
func TestSurveyMissesNothing(t *testing.T) {
	m := smallMachine(t)
	writers := map[string]func(*snapshotWriter){
		"everything": func(o *snapshotWriter) {
			o.writeEvents(m)
			o.writeCustomers(m)
		},
		"without customers": func(o *snapshotWriter) { o.writeEvents(m) },
		"without events":    func(o *snapshotWriter) { o.writeCustomers(m) },
		"customers twice": func(o *snapshotWriter) {
			o.writeEvents(m)
			o.writeCustomers(m)
			o.writeCustomers(m)
		},
	}
	for name, write := range writers {
		var out bytes.Buffer
		o := &snapshotWriter{to: &out, hasher: newSnapshotReader(nil, nil).hasher}
		o.write(append([]byte(snapshotMagic), snapshotVersion))
		o.writeHead(m)
		write(o)
		o.writeSessions(m)
		m.keys.each(func(record keyRecord) bool {
			o.record(keyBlock, func(dst []byte) []byte { return append(dst, record.whole...) })
			return true
		})
		o.writeRegistry(m)
		o.writeCluster(&m.cluster)
		o.closeBlock()
		digest := m.Digest()
		o.write(append([]byte{byte(trailerKind)}, digest[:]...))
		checksum := o.hasher.Sum128().Bytes()
		o.write(checksum[:])
		if _, err := SurveySnapshot(&out, m.Cities()); (name == "everything") != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSurveyPassesReadErrorsOn(t *testing.T) {
	data, broken := snapshotBytes(t, smallMachine(t).Snapshot()), errors.New("broken")
	for _, length := range []int{0, 9, 40, len(data) - 5, len(data)} {
		reader := io.MultiReader(bytes.NewReader(data[:length]), iotest.ErrReader(broken))
		if _, err := SurveySnapshot(reader, dems.DefaultCities()); !errors.Is(err, broken) || errors.Is(err, ErrSnapshot) {
			t.Errorf("after %d bytes: %v", length, err)
		}
	}
}

// TestSurveyHoldsNoBookings surveys a state while memory is watched: what it keeps does not grow with the bookings.
func TestSurveyHoldsNoBookings(t *testing.T) {
	m, w := New(dems.DefaultCities()), newWorkload(true)
	w.fill(t, m, 200_000/slowdown)
	data := snapshotBytes(t, m.Snapshot())
	m, w = nil, nil
	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	most := uint64(0)
	reader := &watchedReader{from: bytes.NewReader(data), every: len(data)/8 + 1, look: func() {
		runtime.GC()
		runtime.ReadMemStats(&during)
		most = max(most, during.HeapAlloc-min(during.HeapAlloc, before.HeapAlloc))
	}}
	if _, err := SurveySnapshot(reader, dems.DefaultCities()); err != nil {
		t.Fatal(err)
	}
	if most > 8<<20 {
		t.Errorf("%d bytes of memory for a snapshot of %d", most, len(data))
	}
	t.Logf("%d bytes of memory for a snapshot of %d", most, len(data))
}

// watchedReader looks at something every so many bytes.
type watchedReader struct {
	from        io.Reader
	every, read int
	look        func()
}

func (r *watchedReader) Read(data []byte) (int, error) {
	count, err := r.from.Read(data)
	if r.read += count; r.read >= r.every {
		r.read = 0
		r.look()
	}
	return count, err
}
