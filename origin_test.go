package dems_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dems"
)

func TestOriginReadsBackWhatItWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		origin := drawOrigin(t)
		d := dems.NewDecoder(dems.AppendOrigin(nil, origin))
		if got := dems.DecodeOrigin(d); d.Finish() != nil || got != origin {
			t.Fatalf("got %v (%v), want %v", got, d.Err(), origin)
		}
		text, err := json.Marshal(origin)
		if err != nil {
			t.Fatal(err)
		}
		var got dems.Origin
		if err := json.Unmarshal(text, &got); err != nil || got != origin {
			t.Fatalf("%s reads as %v (%v)", text, got, err)
		}
	})
}

func TestOriginOfNothing(t *testing.T) {
	var none dems.Origin
	if none.Mark() != 0 || none.String() != "no backup" {
		t.Errorf("mark %d, %q", none.Mark(), none)
	}
	some := dems.Origin{Index: 7, Digest: dems.Digest{0: 1, 8: 2}}
	if some.Mark() != 1 || some.String() != "the backup of index 7 with digest 01000000000000000200000000000000" {
		t.Errorf("mark %d, %q", some.Mark(), some)
	}
	malformed := dems.AppendEntry(nil, &dems.Entry{Kind: dems.RestoreEntry, Origin: dems.Origin{Digest: some.Digest}})
	if _, err := dems.DecodeEntry(malformed); err == nil {
		t.Error("an entry that begins with a backup of nothing is accepted")
	}
}

func TestDigestsAreParsedStrictly(t *testing.T) {
	const text = "00112233445566778899aabbccddeeff"
	if digest, ok := dems.ParseDigest(text); !ok || digest.String() != text {
		t.Errorf("%s is parsed as %s, %v", text, digest, ok)
	}
	for _, wrong := range []string{"", text[1:], text + "0", strings.ToUpper(text), "g" + text[1:], " " + text[1:]} {
		if _, ok := dems.ParseDigest(wrong); ok {
			t.Errorf("%q is accepted", wrong)
		}
	}
	var digest dems.Digest
	if dems.CodeOf(digest.UnmarshalText([]byte("x"))) != dems.MalformedRequest {
		t.Error("x is a digest")
	}
}
