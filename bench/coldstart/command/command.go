// Package command is what the command lines of a cold start have in common. It
// imports no more than any of them must.
package command

import (
	"flag"
	"io"
	"log"
	"net/http"
	"os"
)

// Main runs a command line: with the directory of its session, the token
// endpoint, and the origin of the API.
func Main(run func(dir, tokenURL, origin string) error) {
	log.SetFlags(0)
	dir := flag.String("dir", "", "where the session is")
	tokenURL := flag.String("token-url", "", "the token endpoint")
	origin := flag.String("origin", "", "the API: scheme, host and port")
	flag.Parse()
	if err := run(*dir, *tokenURL, *origin); err != nil {
		log.Fatal(err)
	}
}

// Get makes the one request, and prints the answer.
func Get(client *http.Client, origin string) error {
	resp, err := client.Get(origin + "/me")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		log.Print(resp.Status)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
