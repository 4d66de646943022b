module peer

go 1.21

require (
	github.com/disintegration/imaging v1.6.2
	golang.org/x/image v0.18.0
)
