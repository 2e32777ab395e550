package frontend

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"dems"
)

var strictShape = []fieldShape{{name: "eventID"}, {name: "capacity", number: true}, {name: "peers", list: true}}

func TestDecodeObjectAccepts(t *testing.T) {
	for _, test := range []struct{ body, text, number string }{
		{`{}`, "", ""},
		{" \t\r\n{ \n } ", "", ""},
		{`{"eventID":"TORM100519"}`, "TORM100519", ""},
		{`{"capacity":3}`, "", "3"},
		{"\n{ \"capacity\" :\t-1.5e+3 , \"eventID\": \"\" }\n", "", "-1.5e+3"},
		{`{"capacity":0.25,"eventID":"é🙂"}`, "é🙂", "0.25"},
		{`{"\u0065ventID":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude42\u0000"}`, "\"\\/\b\f\n\r\té🙂\x00", ""},
		{`{"eventID":"plain \\ then é"}`, "plain \\ then é", ""},
		{`{"eventID":"\uFFFD�"}`, "��", ""},
		{`{"capacity":-0}`, "", "-0"},
		{`{"capacity":1E400}`, "", "1E400"},
	} {
		values := make([]string, 3)
		if err := decodeObject([]byte(test.body), strictShape, values); err != nil {
			t.Errorf("%s: %v", test.body, err)
		} else if values[0] != test.text || values[1] != test.number {
			t.Errorf("%s: got %q, want %q and %q", test.body, values, test.text, test.number)
		}
	}
}

func TestDecodeObjectAcceptsLists(t *testing.T) {
	for body, want := range map[string]string{
		`{"peers":["n1"]}`:                                  "n1\n",
		`{"peers":["n1","n3","frontends"]}`:                 "n1\nn3\nfrontends\n",
		"{\"peers\" : [\t\"n1\" ,\n\"\" ] ,\"capacity\":1}": "n1\n\n",
		`{"peers":["é","\u006e1",",","[]"]}`:                "é\nn1\n,\n[]\n",
	} {
		values := make([]string, 3)
		if err := decodeObject([]byte(body), strictShape, values); err != nil || values[2] != want {
			t.Errorf("%s: %q, %v, want %q", body, values[2], err, want)
		}
	}
}

func TestDecodeObjectRefuses(t *testing.T) {
	for _, test := range []struct{ body, detail string }{
		{``, `The body must be one JSON object, as in {"eventID":"…","capacity":1,"peers":["…"]}.`},
		{`[]`, `The body must be one JSON object`},
		{`null`, `The body must be one JSON object`},
		{"\ufeff{}", `The body must be one JSON object`},
		{`{`, `the name of a field must stand at byte 1`},
		{`{,}`, `the name of a field must stand at byte 1`},
		{`{'eventID':"x"}`, `the name of a field must stand at byte 1`},
		{`{eventID:"x"}`, `the name of a field must stand at byte 1`},
		{`{"eventID"`, `a colon is missing after the field eventID`},
		{`{"eventID":`, `The field eventID has no value`},
		{`{"eventID":"x`, `The field eventID does not end`},
		{`{"eventID":"x\`, `The field eventID holds an escape`},
		{`{"eventID":"x"`, `a comma or a closing brace is missing at byte 14`},
		{`{"eventID":"x",}`, `a comma stands before the closing brace`},
		{`{"eventID":"x";}`, `a comma or a closing brace is missing`},
		{`{"eventID":"x"} {}`, `The body must end after its JSON object; there is more at byte 16.`},
		{`{}x`, `there is more at byte 2`},
		{`{} // comment`, `there is more at byte 3`},
		{`{"eventID":"x","eventID":"x"}`, `The field eventID stands twice.`},
		{`{"eventID":"x","event\u0049D":"x"}`, `The field eventID stands twice.`},
		{`{"eventid":"x"}`, `The body has an unknown field "eventid".`},
		{`{"":"x"}`, `The body has an unknown field "".`},
		{`{"a\"b":1}`, `The body has an unknown field "a\"b".`},
		{`{"` + strings.Repeat("x", 100) + `":1}`, `unknown field "` + strings.Repeat("x", 64) + `…".`},
		{`{"eventID":null}`, `The field eventID must be a JSON string.`},
		{`{"eventID":true}`, `The field eventID must be a JSON string.`},
		{`{"eventID":1}`, `The field eventID must be a JSON string.`},
		{`{"eventID":["x"]}`, `The field eventID must be a JSON string.`},
		{`{"eventID":{"eventID":"x"}}`, `The field eventID must be a JSON string.`},
		{`{"capacity":"3"}`, `The field capacity must be a JSON number.`},
		{`{"capacity":null}`, `The field capacity must be a JSON number.`},
		{`{"capacity":+3}`, `The field capacity must be a JSON number.`},
		{`{"capacity":NaN}`, `The field capacity must be a JSON number.`},
		{`{"capacity":.5}`, `The field capacity must be a JSON number.`},
		{`{"capacity":-}`, `The field capacity is not a valid JSON number.`},
		{`{"capacity":1.}`, `The field capacity is not a valid JSON number.`},
		{`{"capacity":1e}`, `The field capacity is not a valid JSON number.`},
		{`{"capacity":1e+}`, `The field capacity is not a valid JSON number.`},
		{`{"capacity":007}`, `a comma or a closing brace is missing at byte 13`},
		{`{"capacity":0x1F}`, `a comma or a closing brace is missing`},
		{`{"capacity":1_000}`, `a comma or a closing brace is missing`},
		{"{\"eventID\":\"a\nb\"}", `The field eventID holds a control character`},
		{"{\"eventID\":\"é\x00b\"}", `The field eventID holds a control character`},
		{"{\"event\x01ID\":\"x\"}", `The name of a field holds a control character`},
		{"{\"eventID\":\"\xff\"}", `The field eventID is not valid UTF-8.`},
		{"{\"eventID\":\"\xed\xa0\x80\"}", `The field eventID is not valid UTF-8.`},
		{"{\"eventID\":\"\xc0\xaf\"}", `The field eventID is not valid UTF-8.`},
		{"{\"\xffeventID\":\"x\"}", `The name of a field is not valid UTF-8.`},
		{`{"eventID":"\ud800"}`, `The field eventID holds an escape that is not valid.`},
		{`{"eventID":"\ud800x"}`, `holds an escape`},
		{`{"eventID":"\ud800\n"}`, `holds an escape`},
		{`{"eventID":"\ud800\ud800"}`, `holds an escape`},
		{`{"eventID":"\ud800A"}`, `holds an escape`},
		{`{"eventID":"\udc00"}`, `holds an escape`},
		{`{"eventID":"\ud83d\u"}`, `holds an escape`},
		{`{"eventID":"\u12"}`, `holds an escape`},
		{`{"eventID":"\u12g4"}`, `holds an escape`},
		{`{"eventID":"\x41"}`, `holds an escape`},
		{`{"eventID":"\`, `holds an escape`},
		{`{"eventID":` + strings.Repeat("[", 30_000), `The field eventID must be a JSON string.`},
		{strings.Repeat(`{"eventID":`, 5_000), `The field eventID must be a JSON string.`},
		{`{"peers":"n1"}`, `The field peers must be a JSON array of strings.`},
		{`{"peers":3}`, `The field peers must be a JSON array of strings.`},
		{`{"peers":null}`, `The field peers must be a JSON array of strings.`},
		{`{"peers":{}}`, `The field peers must be a JSON array of strings.`},
		{`{"peers":[]}`, `The field peers must be a JSON array of at least one string`},
		{`{"peers":[ ]}`, `The field peers must be a JSON array of at least one string`},
		{`{"peers":[`, `The field peers must be a JSON array of at least one string`},
		{`{"peers":["n1",]}`, `The field peers must be a JSON array of at least one string`},
		{`{"peers":["n1",1]}`, `and of nothing but strings`},
		{`{"peers":[["n1"]]}`, `and of nothing but strings`},
		{`{"peers":` + strings.Repeat("[", 30_000), `and of nothing but strings`},
		{`{"peers":["n1"`, `a comma or a closing bracket is missing`},
		{`{"peers":["n1" "n2"]}`, `a comma or a closing bracket is missing`},
		{`{"peers":["n1"}`, `a comma or a closing bracket is missing`},
		{`{"peers":["n1\nn2"]}`, `The field peers holds a string with a control character.`},
		{`{"peers":["\u0085"]}`, `The field peers holds a string with a control character.`},
		{`{"peers":["n1`, `The field peers does not end`},
		{"{\"peers\":[\"\xff\"]}", `The field peers is not valid UTF-8.`},
		{`{"peers":["n1"],"peers":["n1"]}`, `The field peers stands twice.`},
	} {
		err := decodeObject([]byte(test.body), strictShape, make([]string, 3))
		if err == nil {
			t.Errorf("%.100s: accepted", test.body)
		} else if err.Code != dems.MalformedRequest || !strings.Contains(err.Detail, test.detail) {
			t.Errorf("%.100s: %v, want %s", test.body, err, test.detail)
		}
	}
}

func TestDecodeObjectSharesNoMemory(t *testing.T) {
	body, values := []byte(`{"eventID":"TORM100519","capacity":12,"peers":["n1"]}`), make([]string, 3)
	if err := decodeObject(body, strictShape, values); err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = 'x'
	}
	if values[0] != "TORM100519" || values[1] != "12" || values[2] != "n1\n" {
		t.Errorf("the values changed with the data: %q", values)
	}
}

// FuzzBody compares the decoder with encoding/json: what it accepts, encoding/json must read as the same fields, and
// what encoding/json reads as an object of known fields of the right types, each once, it must accept.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"eventID":"TORM100519","capacity":3}`, `{"capacity":1e5}`, `{"eventID":"\ud83d\ude42é"}`, `{"eventID":"\ud800"}`,
		`{"eventID":null}`, `{"eventID":"a","eventID":"b"}`, "{\"eventID\":\"\xff\"}", `{"x":[{"y":[]}]}`, `{"capacity":00}`, ` { } `, `{}{}`,
		`{"peers":["n1","n3"]}`, `{"peers":[]}`, `{"peers":["a\nb"]}`, `{"peers":[1]}`, `{"peers":[["x"]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values := make([]string, 3)
		failure := decodeObject(data, strictShape, values)
		want, ok := laxObject(data)
		if failure == nil && (!ok || [3]string(values) != want) {
			t.Errorf("%q: accepted as %q, encoding/json has %q, %v", data, values, want, ok)
		}
		if failure == nil || !ok {
			return
		}
		// encoding/json replaces what is not valid UTF-8 and lone surrogates; they are what may be refused here.
		if utf8.Valid(data) && !bytes.Contains(bytes.ToLower(data), []byte(`\ud`)) {
			t.Errorf("%q: refused: %v", data, failure)
		}
	})
}

// laxObject reads an object with encoding/json's tokens and tells whether it has only known fields of the right types, each once.
func laxObject(data []byte) (values [3]string, ok bool) {
	if !json.Valid(data) {
		return values, false
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return values, false
	}
	var seen []string
	for decoder.More() {
		token, err := decoder.Token()
		name, isText := token.(string)
		if err != nil || !isText || slices.Contains(seen, name) {
			return values, false
		}
		seen = append(seen, name)
		value, err := decoder.Token()
		text, isText := value.(string)
		number, isNumber := value.(json.Number)
		switch {
		case err == nil && name == "eventID" && isText:
			values[0] = text
		case err == nil && name == "capacity" && isNumber:
			values[1] = number.String()
		case err == nil && name == "peers" && value == json.Delim('['):
			if values[2], ok = laxList(decoder); !ok {
				return values, false
			}
		default:
			return values, false
		}
	}
	_, err := decoder.Token()
	_, end := decoder.Token()
	return values, err == nil && end == io.EOF
}

// laxList reads the rest of an array and tells whether it has at least one string, and nothing but strings without control
// characters.
func laxList(decoder *json.Decoder) (texts string, ok bool) {
	for decoder.More() {
		value, err := decoder.Token()
		text, isText := value.(string)
		if err != nil || !isText || strings.ContainsFunc(text, unicode.IsControl) {
			return "", false
		}
		texts += text + "\n"
	}
	_, err := decoder.Token()
	return texts, err == nil && texts != ""
}

func TestDecodeQuery(t *testing.T) {
	names := []string{"eventType", "bookings"}
	for _, test := range []struct {
		query  string
		values [2]string
		given  uint
		detail string
	}{
		{query: ""},
		{query: "eventType=seminar", values: [2]string{"seminar"}, given: 1},
		{query: "bookings=cancel&eventType=Trade+Shows", values: [2]string{"Trade Shows", "cancel"}, given: 3},
		{query: "eventType=Trade%20Shows%26", values: [2]string{"Trade Shows&"}, given: 1},
		{query: "eventType", given: 1},
		{query: "eventType=", given: 1},
		{query: "eventType=a=b", values: [2]string{"a=b"}, given: 1},
		{query: "%65ventType=x", values: [2]string{"x"}, given: 1},
		{query: "&", detail: `There is an unknown query parameter "".`},
		{query: "eventType=x&", detail: `There is an unknown query parameter "".`},
		{query: "eventtype=x", detail: `There is an unknown query parameter "eventtype".`},
		{query: "eventType=x;bookings=cancel", values: [2]string{"x;bookings=cancel"}, given: 1},
		{query: "eventType=x&eventType=x", detail: "The query parameter eventType stands twice."},
		{query: "eventType&%65ventType", detail: "The query parameter eventType stands twice."},
		{query: "eventType=%", detail: "The query is not percent-encoded as it should be at \"eventType=%\"."},
		{query: "%zz=1", detail: "The query is not percent-encoded"},
		{query: "eventType=%f", detail: "The query is not percent-encoded"},
	} {
		values := [2]string{}
		given, err := decodeQuery(test.query, names, values[:])
		if test.detail != "" {
			if err == nil || err.Code != dems.MalformedRequest || !strings.Contains(err.Detail, test.detail) {
				t.Errorf("%q: %v, want %s", test.query, err, test.detail)
			}
			continue
		}
		if err != nil || values != test.values || given != test.given {
			t.Errorf("%q: %q %b %v", test.query, values, given, err)
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "eventType=seminar", "eventType=%zz", "a&b", "eventType=x&eventType=y", "%", "eventType=%ff"} {
		f.Add(seed)
	}
	names := []string{"eventType", "bookings"}
	f.Fuzz(func(t *testing.T, query string) {
		values := [2]string{}
		given, err := decodeQuery(query, names, values[:])
		if err != nil && err.Code != dems.MalformedRequest {
			t.Errorf("%q: %v", query, err)
		}
		if err == nil && strings.Count(query, "&") > 1 {
			t.Errorf("%q: more parameters than there are were accepted", query)
		}
		for i := range values {
			if err == nil && given&(1<<i) == 0 && values[i] != "" {
				t.Errorf("%q: a value that was not given", query)
			}
		}
	})
}
