package peers

import (
	"io"
	"net/http"
	"net/url"
	"strings"
)

// readForm reads the form that a request carries, and closes its body.
func readForm(req *http.Request) (url.Values, error) {
	defer req.Body.Close()
	data, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return url.ParseQuery(string(data))
}

// setForm gives a request another form.
func setForm(req *http.Request, form url.Values) {
	text := form.Encode()
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	req.Body, _ = req.GetBody()
	req.ContentLength = int64(len(text))
}
