module wow/bench/peer

go 1.23
