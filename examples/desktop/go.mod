module github.com/freshtoken/freshtoken/examples/desktop

go 1.26.0

replace github.com/freshtoken/freshtoken => ../..

require (
	github.com/freshtoken/freshtoken v0.0.0-00010101000000-000000000000
	github.com/jezek/xgb v1.1.1
	golang.org/x/image v0.46.0
	golang.org/x/oauth2 v0.37.0
)

require (
	github.com/cli/browser v1.3.0 // indirect
	github.com/coreos/go-oidc/v3 v3.21.0 // indirect
	github.com/danieljoos/wincred v1.2.3 // indirect
	github.com/go-jose/go-jose/v4 v4.1.9 // indirect
	github.com/godbus/dbus/v5 v5.2.4 // indirect
	github.com/zalando/go-keyring v0.2.8 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/term v0.48.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
