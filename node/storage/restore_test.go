package storage

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dems"

	"github.com/hashicorp/raft"
)

var testOrigin = dems.Origin{Index: 812, Digest: dems.Digest{1, 15: 2}}

// seeding begins to restore a backup into a folder and writes its state.
func seeding(t *testing.T, dir string) *Restoration {
	t.Helper()
	r, err := BeginRestore(t.Context(), dir, testOrigin, dems.DefaultCities())
	if err == nil {
		err = r.State(func(w io.Writer) error {
			_, err := io.WriteString(w, "the state at index 812")
			return err
		})
	}
	if err == nil {
		err = os.Mkdir(r.CityLogs(), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(r.CityLogs(), "TOR.log"), "records")
	return r
}

// seeded returns a folder into which a backup was restored.
func seeded(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new", "n1")
	if err := seeding(t, dir).Finish(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func threeVoters() raft.Configuration {
	var all raft.Configuration
	for _, id := range three() {
		all.Servers = append(all.Servers, raft.Server{ID: raft.ServerID(id + ".1"), Address: raft.ServerAddress(id)})
	}
	return all
}

// expectSeed opens a folder as that of a node that has been given a backup and nothing more, and returns it.
func expectSeed(t *testing.T, dir string) *Folder {
	t.Helper()
	folder := mustOpen(t, config(dir))
	term, err := folder.Log.GetUint64([]byte(keyTerm))
	if err != nil || term != restoredTerm || !folder.Fresh() || folder.Marker.Origin != testOrigin || folder.Marker.ID != "n1" ||
		folder.Newest == nil || folder.Newest.Index != testOrigin.Index || folder.Newest.Term != restoredTerm {
		t.Errorf("term %d, %v, %+v, newest %+v", term, err, folder.Marker, folder.Newest)
	}
	if text := content(t, dir)["logs/TOR.log"]; text != "records" {
		t.Errorf("the city log has %q", text)
	}
	if _, err := os.Stat(filepath.Join(dir, restoredFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", restoredFile, err)
	}
	return folder
}

// TestRestoredFolderBelongsToWhoOpensIt lets a node take a restored folder over, and nobody else after it.
func TestRestoredFolderBelongsToWhoOpensIt(t *testing.T) {
	dir := seeded(t)
	mustClose(t, expectSeed(t, dir))
	mustClose(t, expectSeed(t, dir))
	other := config(dir)
	other.ID = "n2"
	expect(t, other, "belongs to node n1")
}

// TestDescend begins the log of a restored cluster and opens it again.
func TestDescend(t *testing.T) {
	dir := seeded(t)
	folder := expectSeed(t, dir)
	if err := folder.Descend(threeVoters()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	for range 2 {
		folder = mustOpen(t, config(dir))
		extent := folder.Extent
		if folder.Fresh() || extent.First != 813 || extent.Last != 814 || extent.LastCommand != 813 || extent.ConfigurationIndex != 814 ||
			len(extent.Configuration.Servers) != 3 || extent.Term != restoredTerm || folder.Marker.Origin != testOrigin {
			t.Errorf("%+v", extent)
		}
		if meta := folder.Newest; meta.ConfigurationIndex != 1 || len(meta.Configuration.Servers) != 3 || meta.Index != testOrigin.Index {
			t.Errorf("%+v", meta)
		}
		var first raft.Log
		if err := folder.Log.GetLog(813, &first); err != nil {
			t.Fatal(err)
		}
		if entry, err := dems.DecodeEntry(first.Data); err != nil || entry.Kind != dems.RestoreEntry || entry.Origin != testOrigin {
			t.Errorf("the log begins with %+v, %v", entry, err)
		}
		if err := folder.Descend(threeVoters()); err == nil || !strings.Contains(err.Error(), "used since") {
			t.Errorf("once more: %v", err)
		}
		mustClose(t, folder)
	}
	_, reader, err := mustReopen(t, dir).Snapshots.Open(folder.Newest.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if state, err := io.ReadAll(reader); err != nil || string(state) != "the state at index 812" {
		t.Errorf("%q, %v", state, err)
	}
}

// mustReopen opens a folder that is closed when the test ends.
func mustReopen(t *testing.T, dir string) *Folder {
	t.Helper()
	folder := mustOpen(t, config(dir))
	t.Cleanup(func() { folder.Close() })
	return folder
}

// TestDescendNeedsASeed refuses to begin a log elsewhere.
func TestDescendNeedsASeed(t *testing.T) {
	empty := mustReopen(t, t.TempDir())
	used := mustReopen(t, lived(t, 1))
	for name, folder := range map[string]*Folder{"empty": empty, "used": used} {
		if err := folder.Descend(threeVoters()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestCrashWhileTheLogBegins leaves the configuration in the snapshot and no log: another --peers is taken then.
func TestCrashWhileTheLogBegins(t *testing.T) {
	dir := seeded(t)
	folder := expectSeed(t, dir)
	if err := folder.Snapshots.configure(folder.Newest.ID, threeVoters()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	folder = expectSeed(t, dir)
	one := raft.Configuration{Servers: threeVoters().Servers[:1]}
	if err := folder.Descend(one); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	if again := mustReopen(t, dir); len(again.Newest.Configuration.Servers) != 1 || len(again.Extent.Configuration.Servers) != 1 {
		t.Errorf("%+v and %+v", again.Newest, again.Extent)
	}
}

// TestCrashWhileARestoredFolderIsTakenOver leaves what each step leaves, if the next does not come.
func TestCrashWhileARestoredFolderIsTakenOver(t *testing.T) {
	before := seeded(t)
	after := seeded(t)
	mustClose(t, expectSeed(t, after))
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"an empty raft.db": func(t *testing.T, dir string) { write(t, filepath.Join(dir, logFile), "") },
		"raft.db without a term": func(t *testing.T, dir string) {
			bolt, err := openBolt(filepath.Join(dir, logFile))
			if err = errors.Join(err, bolt.Close()); err != nil {
				t.Fatal(err)
			}
		},
		"raft.db with its term": func(t *testing.T, dir string) { copyFile(t, after, dir, logFile) },
		"node.json": func(t *testing.T, dir string) {
			copyFile(t, after, dir, logFile)
			copyFile(t, after, dir, markerFile)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "n1")
			if err := os.CopyFS(dir, os.DirFS(before)); err != nil {
				t.Fatal(err)
			}
			prepare(t, dir)
			mustClose(t, expectSeed(t, dir))
		})
	}
}

func copyFile(t *testing.T, from, to, name string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, name), string(data))
}

// TestRestorationIsWholeOrNothing interrupts a restoration everywhere.
func TestRestorationIsWholeOrNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "n1")
	r := seeding(t, dir)
	if err := r.lock.Close(); err != nil { // as the end of the process does
		t.Fatal(err)
	}
	expect(t, config(dir), "was interrupted: restore it again")
	write(t, filepath.Join(dir, resetKeyFile), "key") // as the node that was refused has left it
	write(t, filepath.Join(dir, CityLogFolder, "OTW.log"), "half of it")
	write(t, filepath.Join(dir, restoringFile+".tmp"), "half")
	write(t, filepath.Join(dir, probePrefix+"1"), "")
	if err := seeding(t, dir).Finish(); err != nil {
		t.Fatal(err)
	}
	if _, found := content(t, dir)["logs/OTW.log"]; found {
		t.Error("something is left of the first try")
	}
	mustClose(t, expectSeed(t, dir))
}

// TestRestorationThatHardlyBegan was interrupted while it marked the folder.
func TestRestorationThatHardlyBegan(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, restoringFile+".tmp"), "half")
	write(t, filepath.Join(dir, probePrefix+"1"), "")
	if err := seeding(t, dir).Finish(); err != nil {
		t.Fatal(err)
	}
	if _, found := content(t, dir)[restoringFile+".tmp"]; found {
		t.Error("something is left of the first try")
	}
	mustClose(t, expectSeed(t, dir))
}

func TestAbortedRestorationLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := seeding(t, dir).Abort(); err != nil {
		t.Fatal(err)
	}
	if left := content(t, dir); len(left) > 0 {
		t.Errorf("left: %v", slices.Collect(maps.Keys(left)))
	}
	r, err := BeginRestore(t.Context(), dir, testOrigin, dems.DefaultCities())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the backup cannot be read")
	err = r.State(func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := r.Abort(); err != nil {
		t.Fatal(err)
	}
	if left := content(t, dir); len(left) > 0 {
		t.Errorf("left of half a state: %v", slices.Collect(maps.Keys(left)))
	}
}

// TestRestoringIntoAUsedFolder refuses, and changes nothing.
func TestRestoringIntoAUsedFolder(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) string{
		"a node's folder":   func(t *testing.T) string { return lived(t, 1) },
		"a restored folder": seeded,
		"a file of somebody": func(t *testing.T) string {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "notes"), "stays")
			return dir
		},
		"snapshots of nobody": func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, snapshotFolder), 0o700); err != nil {
				t.Fatal(err)
			}
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := make(t)
			before := content(t, dir)
			_, err := BeginRestore(t.Context(), dir, testOrigin, dems.DefaultCities())
			if err == nil || !strings.Contains(err.Error(), "is not empty") {
				t.Errorf("%v", err)
			}
			if after := content(t, dir); !maps.Equal(after, before) {
				t.Errorf("the folder was changed")
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "n1")
	r := seeding(t, dir)
	if _, err := BeginRestore(t.Context(), dir, testOrigin, dems.DefaultCities()); !errors.Is(err, ErrInUse) {
		t.Errorf("while another one goes on: %v", err)
	}
	if err := r.Abort(); err != nil {
		t.Fatal(err)
	}
}

// TestRestoredFolderThatCannotBeUsed has a restored folder with something missing or damaged.
func TestRestoredFolderThatCannotBeUsed(t *testing.T) {
	text := content(t, seeded(t))[restoredFile]
	taken := seeded(t)
	mustClose(t, expectSeed(t, taken))
	for name, test := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"no snapshot": {func(t *testing.T, dir string) { removeAll(t, filepath.Join(dir, snapshotFolder)) }, "holds something else than"},
		"a damaged snapshot": {func(t *testing.T, dir string) {
			found, err := filepath.Glob(filepath.Join(dir, snapshotFolder, "*", "state.bin"))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			write(t, found[0], "another state at index")
		}, "is damaged"},
		"no JSON":          {func(t *testing.T, dir string) { write(t, filepath.Join(dir, restoredFile), "{") }, "is damaged"},
		"another format":   {func(t *testing.T, dir string) { replaceIn(t, dir, text, `"format": 1`, `"format": 2`) }, "another version"},
		"another form":     {func(t *testing.T, dir string) { replaceIn(t, dir, text, "  ", "\t") }, "is damaged"},
		"another index":    {func(t *testing.T, dir string) { replaceIn(t, dir, text, "812", "813") }, "holds something else than"},
		"an index of 0":    {func(t *testing.T, dir string) { replaceIn(t, dir, text, "812", "0") }, "is damaged"},
		"half a digest":    {func(t *testing.T, dir string) { replaceIn(t, dir, text, "0100", "01") }, "is damaged"},
		"other cities":     {func(t *testing.T, dir string) { replaceIn(t, dir, text, "Toronto", "York") }, "was made for the cities"},
		"without its mark": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, restoredFile)) }, "but no node.json"},
		"another's log": {func(t *testing.T, dir string) {
			other := t.TempDir()
			folder := mustOpen(t, config(other))
			fill(t, folder, 1, 3)
			mustClose(t, folder)
			copyFile(t, other, dir, logFile)
		}, "holds something else than"},
		"another's mark": {func(t *testing.T, dir string) {
			copyFile(t, taken, dir, logFile)
			copyFile(t, taken, dir, markerFile)
			replaceIn(t, dir, text, "0100", "0900")
		}, "says that it was restored from"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := seeded(t)
			test.change(t, dir)
			expect(t, config(dir), test.want)
		})
	}
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func replaceIn(t *testing.T, dir, text, old, new string) {
	t.Helper()
	write(t, filepath.Join(dir, restoredFile), strings.ReplaceAll(text, old, new))
}

// TestRestoredLogThatIsLost has a node that took part in elections find its log as a new one is.
func TestRestoredLogThatIsLost(t *testing.T) {
	dir := seeded(t)
	folder := expectSeed(t, dir)
	if err := folder.Log.SetUint64([]byte(keyTerm), 2); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	expect(t, config(dir), "its log is lost")
}

// TestCompactedRestoredLog has a later snapshot take the place of the whole log.
func TestCompactedRestoredLog(t *testing.T) {
	dir := seeded(t)
	folder := expectSeed(t, dir)
	if err := errors.Join(folder.Descend(threeVoters()), folder.Log.SetUint64([]byte(keyTerm), 2)); err != nil {
		t.Fatal(err)
	}
	snapshotAt(t, folder, 900)
	if err := folder.Log.DeleteRange(813, 814); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	if again := mustReopen(t, dir); again.Fresh() || again.Newest.Index != 900 {
		t.Errorf("%+v", again)
	}
}

// fromOrigin returns statements of nodes whose cluster was restored from a backup.
func fromOrigin(origin dems.Origin, next uint64, by ...dems.NodeID) map[dems.NodeID]dems.NodeStatus {
	all := statements(next, by...)
	for id, status := range all {
		status.Origin = origin
		all[id] = status
	}
	return all
}

// TestNextLifeBelongsToTheSameCluster empties folders for the cluster that says so: that of a member, and one that has no past.
func TestNextLifeBelongsToTheSameCluster(t *testing.T) {
	removal, err := ProveRemoval("n1", 1, three(), fromOrigin(testOrigin, 2, "n2", "n3"))
	if err != nil {
		t.Fatal(err)
	}
	member := seeded(t)
	folder := expectSeed(t, member)
	if err := folder.Descend(threeVoters()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	started := t.TempDir()
	mustClose(t, mustOpen(t, config(started)))
	for name, dir := range map[string]string{"of a member": member, "without a past": t.TempDir(), "started, but without a past": started} {
		for _, step := range append([]string{""}, Steps...) {
			copied := filepath.Join(t.TempDir(), "n1")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if at, err := until(func() error { return Empty(t.Context(), config(copied), removal, stopAt(step)) }); at != step || err != nil {
				t.Fatalf("%s: stopped at %q, %v", name, at, err)
			}
			expectNew(t, copied, 2)
			if folder := mustReopen(t, copied); folder.Marker.Origin != testOrigin {
				t.Errorf("%s, stopped at %q: it belongs to %s", name, step, folder.Marker.Origin)
			}
		}
	}
}

// TestAnotherClusterEmptiesNothing has a cluster of the same names, which was restored from another backup or from none, say that
// a node was removed.
func TestAnotherClusterEmptiesNothing(t *testing.T) {
	other := dems.Origin{Index: 812, Digest: dems.Digest{9}}
	dirs := map[string]string{"restored, never started": seeded(t), "restored": seeded(t), "a member": seeded(t), "never restored": lived(t, 1)}
	mustClose(t, expectSeed(t, dirs["restored"]))
	folder := expectSeed(t, dirs["a member"])
	if err := folder.Descend(threeVoters()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	for name, dir := range dirs {
		removal, err := ProveRemoval("n1", 1, three(), fromOrigin(other, 2, "n2", "n3"))
		if err != nil {
			t.Fatal(err)
		}
		before := content(t, dir)
		if err := Empty(t.Context(), config(dir), removal, nil); err == nil || !strings.Contains(err.Error(), "nothing is deleted") {
			t.Errorf("%s: %v", name, err)
		}
		if after := content(t, dir); !maps.Equal(after, before) {
			t.Errorf("%s: the folder was changed", name)
		}
	}
}

// TestWitnessesOfDifferentClusters do not make a proof together.
func TestWitnessesOfDifferentClusters(t *testing.T) {
	mixed := fromOrigin(testOrigin, 2, "n2")
	maps.Copy(mixed, statements(2, "n3"))
	if removal, err := ProveRemoval("n1", 1, three(), mixed); err == nil {
		t.Errorf("%+v", removal)
	}
	data, err := (&Removal{id: "n1", incarnation: 1, next: 2, cluster: three(), witnesses: three()[1:], origin: testOrigin}).encode()
	if err != nil {
		t.Fatal(err)
	}
	if removal, err := decodeRemoval(data); err != nil || removal.origin != testOrigin {
		t.Errorf("%+v, %v, from\n%s", removal, err, data)
	}
}

// TestRestoredFileBytes pins the form that docs/formats.md shows.
func TestRestoredFileBytes(t *testing.T) {
	digest, _ := dems.ParseDigest("00112233445566778899aabbccddeeff")
	got, err := (&restoration{restorationFormat, dems.Origin{Index: 812, Digest: digest}, dems.DefaultCities().String()}).encode()
	want := `{
  "format": 1,
  "origin": {
    "index": 812,
    "digest": "00112233445566778899aabbccddeeff"
  },
  "cities": "MTL=Montreal,OTW=Ottawa,TOR=Toronto"
}
`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// FuzzRestoration makes sure that whatever is read as restored.json is exactly what would be written.
func FuzzRestoration(f *testing.F) {
	data, err := (&restoration{restorationFormat, testOrigin, dems.DefaultCities().String()}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, restoredFile), string(data))
		r, err := readRestoration(dir)
		if err != nil {
			return
		}
		if again, err := r.encode(); err != nil || string(again) != string(data) || r.Origin.Index == 0 {
			t.Fatalf("%s\nbecame\n%s, %v", data, again, err)
		}
	})
}
