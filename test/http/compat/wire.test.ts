import t from 'tap'
import { CompatWire } from '../../../src/http/compat/wire.ts'
import { wireContract } from '../contract.ts'

wireContract(t, (options) => new CompatWire(options))
