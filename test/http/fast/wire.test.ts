import t from 'tap'
import { FastWire } from '../../../src/http/fast/wire.ts'
import { wireContract } from '../contract.ts'

wireContract(t, (options) => new FastWire(options))
