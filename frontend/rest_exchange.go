package frontend

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"dems"
)

// The values of headers that are the same every time. They are never changed.
var (
	jsonContentType    = []string{"application/json"}
	linesContentType   = []string{"application/x-ndjson"}
	problemContentType = []string{"application/problem+json"}
	textContentType    = []string{"text/plain; charset=utf-8"}
	noStore            = []string{"no-store"}
	retryAfter         = []string{retryAfterSeconds}
	connectionClose    = []string{"close"}
	replayedTrue       = []string{"true"}
	challenge          = []string{`Dems-User realm="dems"`}
)

// exchange is one request and the response that is being made for it. It is used by one goroutine and then used again
// for another request. It is an http.ResponseWriter that keeps what is written.
type exchange struct {
	request   *http.Request
	start     time.Time
	route     *route            // nil: none matched
	counted   bool              // in restHandler.inFlight
	variables map[string]string // of the path, still percent-encoded
	by        string            // who asks, as the client wrote it; not checked
	fields    [8]string         // of the body, by position in route.fields
	query     [2]string         // by position in route.parameters
	given     uint              // which query parameters are there, as bits
	input     []byte            // the body

	writer http.ResponseWriter // for streams; everything else writes into the exchange
	begun  bool                // a stream has begun its response
	sent   int64               // bytes of a stream
	header http.Header
	status int
	code   dems.Code
	output []byte
}

func (x *exchange) begin(writer http.ResponseWriter, request *http.Request, start time.Time) {
	*x = exchange{request: request, start: start, writer: writer, header: writer.Header(), status: http.StatusOK, input: x.input, output: x.output}
}

// release lets go of everything but buffers of moderate size.
func (x *exchange) release() {
	input, output := x.input[:0], x.output[:0]
	if cap(input) > maxRetainedBytes {
		input = nil
	}
	if cap(output) > maxRetainedBytes {
		output = nil
	}
	*x = exchange{input: input, output: output}
}

// read reads and checks what every request of a route has: who asks, the body, the query.
func (x *exchange) read() error {
	if err := x.identify(); err != nil {
		return err
	}
	if err := x.readBody(); err != nil {
		return err
	}
	given, err := decodeQuery(x.request.URL.RawQuery, x.route.parameters, x.query[:])
	if err != nil {
		return err
	}
	x.given = given
	return nil
}

// identify finds out who asks. While authentication is off the client says so itself; this is where a token will be
// checked instead, and where a route for operators will ask for one.
func (x *exchange) identify() error {
	if x.route.access != forUsers {
		return nil
	}
	values := x.request.Header["Dems-User"]
	if len(values) > 1 {
		return malformed("The header Dems-User stands %d times; send it once.", len(values))
	}
	if len(values) == 0 || strings.TrimSpace(values[0]) == "" {
		x.header["Www-Authenticate"] = challenge
		return &dems.Error{Code: dems.Unauthenticated}
	}
	x.by = values[0]
	return nil
}

// readBody reads the body into fields, or makes sure that there is none.
func (x *exchange) readBody() error {
	if x.route.fields == nil {
		return x.readNothing()
	}
	if !isJSON(x.request.Header) {
		return &dems.Error{Code: dems.UnsupportedMediaType}
	}
	if x.request.ContentLength > maxBodyBytes {
		return x.tooLarge()
	}
	if cap(x.input) == 0 {
		x.input = make([]byte, 0, 512)
	}
	for {
		count, err := x.request.Body.Read(x.input[len(x.input):min(cap(x.input), maxBodyBytes+1)])
		x.input = x.input[:len(x.input)+count]
		if len(x.input) > maxBodyBytes {
			return x.tooLarge()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return x.interrupted(err)
		}
		if len(x.input) == cap(x.input) {
			x.input = append(x.input, 0)[:len(x.input)]
		}
	}
	if err := decodeObject(x.input, x.route.fields, x.fields[:]); err != nil {
		return err
	}
	return nil
}

// readNothing refuses a body where none is wanted.
func (x *exchange) readNothing() error {
	if x.request.ContentLength == 0 {
		return nil
	}
	if count, _ := io.ReadFull(x.request.Body, make([]byte, 1)); count == 0 && x.request.ContentLength < 0 {
		return nil
	}
	x.header["Connection"] = connectionClose
	return malformed("%s takes no body.", x.request.Method)
}

// tooLarge also ends the connection: what is left of the body is not worth reading.
func (x *exchange) tooLarge() error {
	x.header["Connection"] = connectionClose
	return &dems.Error{Code: dems.PayloadTooLarge, Detail: "A body has at most " + strconv.Itoa(maxBodyBytes) + " bytes."}
}

func (x *exchange) interrupted(err error) error {
	x.header["Connection"] = connectionClose
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return malformed("The body did not arrive in time.")
	}
	return malformed("The body ended early or was not sent as the header says.")
}

// isJSON tells whether a body is application/json in UTF-8, not compressed.
func isJSON(header http.Header) bool {
	if len(header["Content-Encoding"]) > 0 {
		return false
	}
	values := header["Content-Type"]
	if len(values) != 1 {
		return false
	}
	if values[0] == jsonContentType[0] {
		return true
	}
	mediaType, parameters, err := mime.ParseMediaType(values[0])
	if err != nil || mediaType != jsonContentType[0] {
		return false
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

// variable returns a variable of the path.
func (x *exchange) variable(name string) string {
	text := x.variables[name]
	if strings.IndexByte(text, '%') < 0 {
		return text
	}
	decoded, err := url.PathUnescape(text)
	if err != nil {
		return "" // net/http has checked it; nothing is called ""
	}
	return decoded
}

// parameter returns a query parameter that may be left out. One that is there but empty is not taken for one that was
// left out, which would mean something else: it becomes a value that no parser accepts.
func (x *exchange) parameter(position int) string {
	if x.given&(1<<position) != 0 && x.query[position] == "" {
		return " "
	}
	return x.query[position]
}

// key returns the idempotency key and whether there is one. A repeated header is a key that is not valid.
func (x *exchange) key() (key string, given bool) {
	switch values := x.request.Header["Idempotency-Key"]; len(values) {
	case 0:
		return "", false
	case 1:
		return values[0], true
	default:
		return "", true
	}
}

// problem makes a problem the response, in place of what was written before.
func (x *exchange) problem(code dems.Code, detail string, sequence uint64) {
	x.status = statusOf(code)
	if x.status == http.StatusInternalServerError {
		code = dems.Internal
	}
	x.code = code
	x.header["Content-Type"] = problemContentType
	if code == dems.Unavailable || code == dems.RateLimited {
		x.header["Retry-After"] = retryAfter
	}
	x.output = appendProblem(x.output[:0], code, detail, sequence)
}

// Header implements http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.header }

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) { x.status = status }

// Write implements http.ResponseWriter. It never fails.
func (x *exchange) Write(data []byte) (int, error) {
	x.output = append(x.output, data...)
	return len(data), nil
}
