package main

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dems/frontend"
	"dems/internal/onenode"
)

// backupFile makes a backup of a cluster and returns its path and what it is of.
func backupFile(t *testing.T) (path string, of frontend.Backup) {
	t.Helper()
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	err = cluster.Backup(t.Context(), func(b frontend.Backup) (io.Writer, error) {
		of = b
		return &data, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "tonight.backup")
	if err := os.WriteFile(path, data.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, of
}

// wantRestored runs demsd restore, which has to succeed, and returns what it said.
func wantRestored(t *testing.T, of frontend.Backup, args ...string) string {
	t.Helper()
	status, stdout, stderr := runDemsd(t, append([]string{"restore"}, args...)...)
	if status != statusDone || stderr != "" || !strings.Contains(stdout, of.Origin.Digest.String()) || !strings.Contains(stdout, "restored: index ") {
		t.Fatalf("%v: status %d\n%s%s", args, status, stdout, stderr)
	}
	return stdout
}

// wantNotRestored runs demsd restore, which has to fail with a text.
func wantNotRestored(t *testing.T, status int, want string, args ...string) {
	t.Helper()
	got, stdout, stderr := runDemsd(t, append([]string{"restore"}, args...)...)
	if got != status || stdout != "" || !strings.Contains(stderr, want) {
		t.Errorf("%v: status %d, want %d and %q\n%s%s", args, got, status, want, stdout, stderr)
	}
}

// names returns the names in a folder, in order.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func TestRestore(t *testing.T) {
	path, of := backupFile(t)
	dir := filepath.Join(t.TempDir(), "var", "lib", "dems")
	said := wantRestored(t, of, "--from", path, "--data-dir", dir)
	if !strings.Contains(said, "demsd node --data-dir "+dir+" --id ID") {
		t.Errorf("said %s", said)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"logs", "restored.json", "snapshots"}) {
		t.Errorf("the folder has %v", got)
	}
	wantNotRestored(t, statusFailed, "is not empty", "--from", path, "--data-dir", dir)
	mounted := t.TempDir() // as a volume is
	wantRestored(t, of, "--from", path, "--data-dir", mounted, "--cities", "MTL=Montreal,OTW=Ottawa,TOR=Toronto")
}

func TestRestoreThatIsRefused(t *testing.T) {
	path, _ := backupFile(t)
	dir := filepath.Join(t.TempDir(), "n1")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	for at := 0; at < len(data); at += 1 + len(data)/40 {
		flipped := slices.Clone(data)
		flipped[at] ^= 4
		for _, text := range [][]byte{flipped, data[:at]} {
			if err := os.WriteFile(damaged, text, 0o600); err != nil {
				t.Fatal(err)
			}
			wantNotRestored(t, statusFailed, "damaged backup", "--from", damaged, "--data-dir", dir)
			wantNotRestored(t, statusFailed, "damaged backup", "--from", damaged, "--data-dir", dir, "--dev")
		}
	}
	wantNotRestored(t, statusFailed, "no such file", "--from", path+".gone", "--data-dir", dir)
	wantNotRestored(t, statusFailed, "is a directory", "--from", filepath.Dir(path), "--data-dir", dir)
	wantNotRestored(t, statusFailed, "cities of a cluster do not change", "--from", path, "--data-dir", dir, "--cities", "TOR=Toronto")
	wantNotRestored(t, statusUsage, "--cities", "--from", path, "--data-dir", dir, "--cities", "Toronto")
	wantNotRestored(t, statusUsage, "--from is required", "--data-dir", dir)
	wantNotRestored(t, statusUsage, "--data-dir is required", "--from", path)
	wantNotRestored(t, statusUsage, "use 1 to 9", "--from", path, "--data-dir", dir, "--dev", "--nodes", "10")
	wantNotRestored(t, statusUsage, "--nodes is for --dev", "--from", path, "--data-dir", dir, "--nodes", "3")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder was made: %v", err)
	}
}

func TestRestoreADevelopmentCluster(t *testing.T) {
	path, of := backupFile(t)
	d := newTestDev(t)
	dir := d.flags.dataDir
	said := wantRestored(t, of, "--from", path, "--data-dir", dir, "--dev")
	if !strings.Contains(said, "demsd dev --data-dir "+dir+" --nodes 3") {
		t.Errorf("said %s", said)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"dev.json", "lock", "n1", "n2", "n3"}) {
		t.Errorf("the folder has %v", got)
	}
	prepare(t, d)
	wantNotRestored(t, statusFailed, "is not empty (it holds dev.json)", "--from", path, "--data-dir", dir, "--dev")
	other := newTestDev(t)
	other.flags.dataDir, other.flags.nodes = dir, 5
	if _, err := other.prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "was made for 3 nodes") {
		t.Errorf("started with five nodes: %v", err)
	}
}

// TestInterruptedRestoreOfADevelopmentCluster leaves what each moment leaves: nothing is started with it, and it can be done again.
func TestInterruptedRestoreOfADevelopmentCluster(t *testing.T) {
	path, of := backupFile(t)
	whole := t.TempDir()
	wantRestored(t, of, "--from", path, "--data-dir", whole, "--dev", "--nodes", "2")
	for name, leave := range map[string][]string{
		"the mark alone": {}, "a node": {"n1"}, "all nodes": {"n1", "n2"}, "everything": {"dev.json", "n1", "n2"},
	} {
		d := newTestDev(t)
		dir := d.flags.dataDir
		if err := os.WriteFile(filepath.Join(dir, restoringFile), []byte("here\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, left := range leave {
			if left == "dev.json" {
				data, err := os.ReadFile(filepath.Join(whole, left))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, left), data, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			} else if err := os.CopyFS(filepath.Join(dir, left), os.DirFS(filepath.Join(whole, left))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "was interrupted: restore it again") {
			t.Errorf("%s: started with %v", name, err)
		}
		wantRestored(t, of, "--from", path, "--data-dir", dir, "--dev", "--nodes", "3")
		if got := names(t, dir); !slices.Equal(got, []string{"dev.json", "lock", "n1", "n2", "n3"}) {
			t.Errorf("%s: the folder has %v", name, got)
		}
		prepare(t, d)
	}
}

// TestRestoreLeavesAUsedFolderAlone does not touch what is somebody else's.
func TestRestoreLeavesAUsedFolderAlone(t *testing.T) {
	path, _ := backupFile(t)
	d := newTestDev(t)
	prepare(t, d)
	if err := os.WriteFile(filepath.Join(d.flags.dataDir, restoringFile+".txt"), []byte("notes"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := content(t, d.pkiDir())
	wantNotRestored(t, statusFailed, "is not empty", "--from", path, "--data-dir", d.flags.dataDir, "--dev")
	wantNotRestored(t, statusFailed, "is not empty", "--from", path, "--data-dir", d.flags.dataDir)
	if !maps.Equal(content(t, d.pkiDir()), before) {
		t.Error("certificates were changed")
	}
}
