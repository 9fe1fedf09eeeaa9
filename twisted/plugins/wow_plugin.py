from twisted.application.service import ServiceMaker

wow = ServiceMaker("wow", "wow.tap", "A price on asking: proof of work before a TCP service", "wow")
